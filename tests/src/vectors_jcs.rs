//! RFC 8785's published vectors: what is written for each input is the expected output, byte for byte.

use std::fs;
use stele::canonical::canonicalize;

#[test]
fn published_inputs_become_the_published_outputs() {
    let folder = crate::shared_data()
        .expect("shared/data is absent: the RFC 8785 vectors can't be checked")
        .join("jcs");
    let mut checked = 0;
    for entry in fs::read_dir(folder.join("input")).unwrap() {
        let input = entry.unwrap().path();
        let name = input.file_stem().unwrap().to_str().unwrap().to_owned();
        let written = canonicalize(&fs::read(&input).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected = fs::read(folder.join("output").join(format!("{name}.json"))).unwrap();
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&expected), "{name}");
        let hex = fs::read_to_string(folder.join("outhex").join(format!("{name}.txt"))).unwrap();
        let expected: Vec<u8> =
            hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert_eq!(written, expected, "{name}");
        assert_eq!(canonicalize(&written).unwrap(), written, "{name}: canonical form is not its own");
        checked += 1;
    }
    assert!(checked >= 6, "only {checked} vectors in {}", folder.display());
}
