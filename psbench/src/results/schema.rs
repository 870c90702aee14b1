//! The committed schema of `results.json` agrees with the types and with what is written.

use std::path::Path;
use std::{env, fs};

use serde_json::Value;

use super::{Results, sample};
use crate::plan::Method;

/// Set to anything, it makes the test rewrite the committed schema.
const REWRITE: &str = "PSBENCH_REWRITE_SCHEMA";

fn committed() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/results.schema.json");
    if env::var_os(REWRITE).is_some() {
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(Results)).unwrap();
        fs::write(&path, schema + "\n").unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let generated = schemars::schema_for!(Results).to_value();
    assert!(committed() == generated, "after a change of the types: {REWRITE}=1 cargo test schema");
}

#[test]
fn real_results_are_valid_and_others_are_not() {
    let mut results = sample::empty();
    let mut bare = sample::trial(Method::Default, 100_000, 10.0);
    (bare.rates, bare.jitter, bare.cpu_seconds_per_gb, bare.payload) = (None, None, None, None);
    results.push(bare);
    results.push(sample::trial(Method::Proxy, 100_000, 10.0));
    let mut value = serde_json::to_value(&results).unwrap();
    let validator = jsonschema::validator_for(&committed()).unwrap();
    let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    value["trials"][0]["status"] = "splendid".into();
    assert!(!validator.is_valid(&value));
}
