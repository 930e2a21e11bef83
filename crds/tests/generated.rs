//! Generated files are up to date, and every example parses, validates and survives a round trip.
#![cfg(feature = "k8s")]

use std::fs;
use std::path::{Path, PathBuf};

use crds::manifest::{SPEC, Shape, parse};
use crds::resource::definition;
use crds::validate::validate;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn schema() -> Value {
    let crd = serde_json::to_value(definition()).expect("a definition is plain data");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn the_definition_in_the_repository_is_up_to_date() {
    let path = root().join("crds/yaml/auroraclusters.yaml");
    let wanted = serde_yaml_ng::to_string(&definition()).expect("a definition is plain data");
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is not what crdgen prints: run `make gen`", path.display());
}

#[test]
fn the_definition_is_small_enough_for_client_side_apply() {
    let size = serde_json::to_vec(&definition()).expect("a definition is plain data").len();
    assert!(size < 200_000, "{size} bytes");
}

#[test]
fn every_example_parses_validates_and_survives_a_round_trip() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("examples")).expect("there are examples") {
        let path = entry.expect("the folder can be read").path();
        let text = fs::read_to_string(&path).expect("the example can be read");
        let manifest = parse(&text).unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
        validate(&manifest).unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
        let again = serde_yaml_ng::to_string(&manifest).expect("a manifest is plain data");
        assert_eq!(parse(&again).expect("it reads its own output"), manifest, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3, "{seen} examples");
}

#[test]
fn the_table_of_fields_is_that_of_the_schema() {
    same_fields("spec", SPEC, &schema()["properties"]["spec"]);
}

fn same_fields(path: &str, shape: Shape, schema: &Value) {
    match shape {
        Shape::Any => assert!(schema.get("properties").is_none(), "{path} has fields of its own"),
        Shape::List(inner) => same_fields(&format!("{path}[]"), *inner, &schema["items"]),
        Shape::Object(fields) => {
            let properties =
                schema["properties"].as_object().unwrap_or_else(|| panic!("{path} has no fields"));
            let mut known: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
            let mut wanted: Vec<&str> = properties.keys().map(String::as_str).collect();
            known.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(known, wanted, "fields of {path}");
            for (name, shape) in fields {
                same_fields(&format!("{path}.{name}"), *shape, &properties[*name]);
            }
        }
    }
}
