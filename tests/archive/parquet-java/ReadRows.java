// Reads files with parquet-java: prints, for each question, how many rows answer it and the SHA-256 of those rows, in the
// form that tests/archive/readers describes. A question is `*`, or a column and the text it must equal.

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.TreeMap;
import org.apache.parquet.example.data.Group;
import org.apache.parquet.filter2.compat.FilterCompat;
import org.apache.parquet.filter2.predicate.FilterApi;
import org.apache.parquet.hadoop.ParquetReader;
import org.apache.parquet.hadoop.api.ReadSupport;
import org.apache.parquet.hadoop.example.GroupReadSupport;
import org.apache.parquet.io.LocalInputFile;
import org.apache.parquet.io.api.Binary;
import org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName;

public class ReadRows {
    public static void main(String[] args) throws Exception {
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            String[] question = line.split("\t", 3);
            FilterCompat.Filter filter = question[1].equals("*")
                    ? FilterCompat.NOOP
                    : FilterCompat.get(FilterApi.eq(
                            FilterApi.binaryColumn(question[1]), Binary.fromString(question[2])));
            TreeMap<Long, byte[]> rows = new TreeMap<>();
            try (ParquetReader<Group> reader = open(question[0], filter)) {
                for (Group row = reader.read(); row != null; row = reader.read()) {
                    if (rows.put(row.getLong("leaf_index", 0), written(row)) != null) {
                        throw new IllegalStateException("a row comes twice");
                    }
                }
            }
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            rows.values().forEach(digest::update);
            System.out.println(rows.size() + " " + HexFormat.of().formatHex(digest.digest()));
        }
    }

    static ParquetReader<Group> open(String path, FilterCompat.Filter filter) throws Exception {
        return new ParquetReader.Builder<Group>(new LocalInputFile(Path.of(path))) {
            @Override
            protected ReadSupport<Group> getReadSupport() {
                return new GroupReadSupport();
            }
        }.withFilter(filter).build();
    }

    static byte[] written(Group row) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (int field = 0; field < row.getType().getFieldCount(); field++) {
            if (row.getFieldRepetitionCount(field) == 0) {
                out.writeBytes("-;".getBytes(StandardCharsets.US_ASCII));
                continue;
            }
            boolean number = row.getType().getType(field).asPrimitiveType().getPrimitiveTypeName()
                    == PrimitiveTypeName.INT64;
            byte[] value = number
                    ? Long.toString(row.getLong(field, 0)).getBytes(StandardCharsets.US_ASCII)
                    : row.getBinary(field, 0).getBytes();
            out.writeBytes((value.length + ":").getBytes(StandardCharsets.US_ASCII));
            out.writeBytes(value);
        }
        return out.toByteArray();
    }
}
