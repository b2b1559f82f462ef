//! The checks of the fuzz targets in `ops/fuzz`, run here with the seeds and earlier findings. `ops/fuzz/run` calls the
//! same functions with coverage-guided input.

mod cache;
mod chunks;
mod feed;
mod head;
mod http2;
mod proxy;
mod token;

use std::path::Path;

/// Checks the seeds and findings of a target.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/fuzz/seeds").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| check(&data)).is_err() {
            panic!("{} fails", path.display());
        }
        count += 1;
    }
    assert!(count >= 5, "{} has only {count} files", folder.display());
}

#[test]
fn heads() {
    replay("head", head::check);
}

#[test]
fn chunked_bodies() {
    replay("chunks", chunks::check);
}

#[test]
fn proxy_headers() {
    replay("proxy", proxy::check);
}

#[test]
fn tokens() {
    replay("token", token::check);
}

#[test]
fn feed_lines() {
    replay("feed", feed::check);
}

#[test]
fn cache_rules() {
    replay("cache", cache::check);
}

#[test]
fn http2_connections() {
    replay("http2", http2::check);
}
