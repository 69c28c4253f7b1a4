// Runs statements on Trino with one Hive catalog, in this process: reads `{catalog, statements}`, writes for each
// statement its columns' types and rows as texts, or its error.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.trino.Session;
import io.trino.plugin.hive.HivePlugin;
import io.trino.spi.type.TimeZoneKey;
import io.trino.testing.MaterializedResult;
import io.trino.testing.StandaloneQueryRunner;
import io.trino.testing.TestingSession;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

public class Trino {
    public static void main(String[] args) throws Exception {
        ObjectMapper json = new ObjectMapper();
        JsonNode asked = json.readTree(Path.of(args[0]).toFile());
        Map<String, String> catalog = new HashMap<>();
        asked.get("catalog").properties().forEach(e -> catalog.put(e.getKey(), e.getValue().asText()));
        Session session = TestingSession.testSessionBuilder()
                .setCatalog("hive")
                .setSchema(asked.get("schema").asText())
                .setTimeZoneKey(TimeZoneKey.UTC_KEY)
                .build();
        List<Object> answers = new ArrayList<>();
        try (StandaloneQueryRunner trino = new StandaloneQueryRunner(session)) {
            trino.installPlugin(new HivePlugin());
            trino.createCatalog("hive", "hive", catalog);
            for (JsonNode statement : asked.get("statements")) {
                Map<String, Object> answer = new LinkedHashMap<>();
                try {
                    MaterializedResult result = trino.execute(session, statement.asText());
                    answer.put("columns", result.getColumnNames());
                    answer.put("types", result.getTypes().stream().map(Object::toString).toList());
                    answer.put("rows", result.getMaterializedRows().stream()
                            .map(row -> row.getFields().stream().map(v -> v == null ? null : v.toString()).toList())
                            .toList());
                } catch (RuntimeException e) {
                    answer.put("error", String.valueOf(e.getMessage()));
                }
                answers.add(answer);
            }
        }
        json.writeValue(Path.of(args[1]).toFile(), answers);
        System.exit(0);
    }
}
