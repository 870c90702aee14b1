//! The code of the control protocol is generated once and committed, so that no build needs the generators.
//!
//! After a change of `proto/`: `REGENERATE=1 cargo test -p scistream generated`.

use std::env;
use std::fs;
use std::path::Path;

#[test]
fn the_code_of_the_protocol_is_what_its_definition_generates() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile(["scistream.proto", "gateway.proto"], [package.join("proto")]).unwrap();
    let fresh = tempfile::tempdir().unwrap();
    tonic_prost_build::configure().out_dir(fresh.path()).emit_rerun_if_changed(false).compile_fds(files).unwrap();
    for generated in fresh.path().read_dir().unwrap() {
        let generated = generated.unwrap();
        let committed = package.join("src/proto").join(generated.file_name());
        if env::var_os("REGENERATE").is_some() {
            fs::copy(generated.path(), &committed).unwrap();
        }
        assert!(
            fs::read(generated.path()).unwrap() == fs::read(&committed).unwrap_or_default(),
            "{} is not what proto/ generates: REGENERATE=1 cargo test -p scistream generated writes it anew",
            committed.display()
        );
    }
}
