//! The custom resource's definition: the schema of the Rust types, with the rules of [`crate::rules`].

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

pub use crate::cluster::AuroraCluster;
use crate::rules::{BOUNDS, RULES};

/// The definition, as the API server takes it.
///
/// # Panics
///
/// If a rule or bound names a property that the types do not have: a mistake that a test finds.
pub fn definition() -> CustomResourceDefinition {
    let mut crd = serde_json::to_value(AuroraCluster::crd()).expect("a definition is plain data");
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    drop_null_defaults(schema);
    for (path, keyword, limit) in BOUNDS {
        property(schema, path)[*keyword] = json!(limit);
    }
    for rule in RULES {
        let at = property(schema, rule.at);
        let rules = at.as_object_mut().expect("a schema is an object");
        let rules = rules.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
        let rules = rules.as_array_mut().expect("rules are a list");
        rules.push(json!({"rule": rule.expression, "message": rule.message}));
    }
    // Maps of conditions and nodes merge by key in server-side apply, and are checked for doubles.
    let status = property(schema, &["status"]);
    for (list, key) in [("conditions", "type"), ("instances", "name")] {
        let list = &mut status["properties"][list];
        list["x-kubernetes-list-type"] = json!("map");
        list["x-kubernetes-list-map-keys"] = json!([key]);
        list["items"]["required"] = json!([key]);
        if let Some(key) = list["items"]["properties"][key].as_object_mut() {
            key.remove("default");
        }
    }
    serde_json::from_value(crd).expect("it is still a definition")
}

fn property<'a>(schema: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(schema, |schema, name| {
        let next = schema.get_mut("properties").and_then(|properties| properties.get_mut(*name));
        next.unwrap_or_else(|| panic!("the schema has no property {name} of {path:?}"))
    })
}

/// An absent field is absent: a default of null says nothing and some API servers refuse it.
fn drop_null_defaults(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("default") == Some(&Value::Null) {
                fields.remove("default");
            }
            fields.values_mut().for_each(drop_null_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_null_defaults),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
