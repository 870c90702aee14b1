//! Compiles the control protocol.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["scistream.proto", "gateway.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
