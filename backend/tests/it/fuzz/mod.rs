//! What the fuzz target `csv` of `ops/fuzz` checks, and its seeds and findings as a test. `ops/fuzz/run csv` gives the
//! same function inputs that reach new code.

mod csv;

use std::path::Path;

#[test]
fn csv_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/fuzz/seeds/csv");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| csv::check(&data)).is_ok(), "{} fails", path.display());
        count += 1;
    }
    assert!(count >= 5, "{} has only {count} files", folder.display());
}
