//! A manifest as a file: YAML (or JSON) text with one `AuroraCluster`.
//!
//! The API server refuses unknown fields by the schema; outside Kubernetes [`parse`] does, from a table of
//! the fields that a test compares with the schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_yaml_ng::Value;

use crate::cluster::{AuroraClusterSpec, KIND};
use crate::validate::SpecError;

/// One `AuroraCluster`, as users write it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuroraClusterManifest {
    /// Must be `borealis.dev/v1alpha1`.
    pub api_version: String,
    /// Must be `AuroraCluster`.
    pub kind: String,
    /// Its name.
    pub metadata: ManifestMetadata,
    /// What is wanted.
    #[serde(default)]
    pub spec: AuroraClusterSpec,
}

/// What is used of a manifest's metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestMetadata {
    /// The cluster's name.
    pub name: String,
    /// The namespace; means nothing outside Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels; mean nothing outside Kubernetes.
    pub labels: BTreeMap<String, String>,
    /// Annotations; mean nothing outside Kubernetes.
    pub annotations: BTreeMap<String, String>,
}

/// What a field may hold.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Anything that the type allows: names inside are the user's.
    Any,
    /// An object with these fields.
    Object(&'static [(&'static str, Shape)]),
    /// A list of such.
    List(&'static Shape),
}

const TEMPLATE: Shape = Shape::Object(&[
    ("resources", Shape::Object(&[("requests", Shape::Any), ("limits", Shape::Any)])),
    ("nodeSelector", Shape::Any),
    ("tolerations", Shape::List(&TOLERATION)),
    ("labels", Shape::Any),
    ("annotations", Shape::Any),
]);
const TOLERATION: Shape = Shape::Object(&[
    ("key", Shape::Any),
    ("operator", Shape::Any),
    ("value", Shape::Any),
    ("effect", Shape::Any),
    ("tolerationSeconds", Shape::Any),
]);

/// The fields of a specification.
pub const SPEC: Shape = Shape::Object(&[
    ("mode", Shape::Any),
    ("instances", Shape::Any),
    ("promotionTiers", Shape::Any),
    (
        "storage",
        Shape::Object(&[("nodes", Shape::Any), ("size", Shape::Any), ("storageClassName", Shape::Any)]),
    ),
    ("database", Shape::Any),
    ("credentials", Shape::Object(&[("secretName", Shape::Any)])),
    ("parameters", Shape::Any),
    ("tls", Shape::Object(&[("mode", Shape::Any)])),
    ("service", Shape::Object(&[("type", Shape::Any), ("annotations", Shape::Any)])),
    ("instanceTemplate", TEMPLATE),
    ("storageTemplate", TEMPLATE),
]);

/// The object: of its metadata Kubernetes knows more than this crate, so names there are not checked. A
/// status is what `kubectl get -o yaml` adds; it is read over.
const OBJECT: Shape = Shape::Object(&[
    ("apiVersion", Shape::Any),
    ("kind", Shape::Any),
    ("metadata", Shape::Any),
    ("spec", SPEC),
    ("status", Shape::Any),
]);

/// Reads a manifest's text. Whether its values are allowed, [`crate::validate::validate`] says.
///
/// # Errors
///
/// What is wrong, with the field and the line where they are known: text that is no YAML, none or several
/// objects, unknown fields, values of the wrong type.
pub fn parse(text: &str) -> Result<AuroraClusterManifest, Vec<SpecError>> {
    let mut objects = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let value = Value::deserialize(document)
            .map_err(|error| vec![SpecError::new("manifest", format!("must be YAML: {error}"))])?;
        if !value.is_null() {
            objects.push((index, value));
        }
    }
    let [(index, value)] = objects.as_slice() else {
        let message = format!("must hold exactly one object, of kind {KIND}; it holds {}", objects.len());
        return Err(vec![SpecError::new("manifest", message)]);
    };
    if let Some(kind) = value.get("kind").and_then(Value::as_str).filter(|kind| *kind != KIND) {
        return Err(vec![SpecError::new("kind", format!("kind must be {KIND}, not {kind}"))]);
    }
    let mut unknown = Vec::new();
    find_unknown(value, OBJECT, "", &mut unknown);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let document = serde_yaml_ng::Deserializer::from_str(text).nth(*index);
    let document = document.expect("it was there a moment ago");
    AuroraClusterManifest::deserialize(document)
        .map_err(|error| vec![SpecError::new("manifest", error.to_string())])
}

fn find_unknown(value: &Value, shape: Shape, path: &str, unknown: &mut Vec<SpecError>) {
    match (shape, value) {
        (Shape::Object(fields), Value::Mapping(mapping)) => {
            for (key, inner) in mapping {
                let key = key.as_str().unwrap_or("(a key that is no text)");
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                match fields.iter().find(|(name, _)| *name == key) {
                    Some((_, shape)) => find_unknown(inner, *shape, &path, unknown),
                    None => {
                        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
                        let message = format!("unknown field; allowed here: {}", names.join(", "));
                        unknown.push(SpecError::new(path, message));
                    }
                }
            }
        }
        (Shape::List(inner), Value::Sequence(items)) => {
            for (index, item) in items.iter().enumerate() {
                find_unknown(item, *inner, &format!("{path}[{index}]"), unknown);
            }
        }
        // A value of the wrong type: parsing it says so.
        (Shape::Any | Shape::Object(_) | Shape::List(_), _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: borealis.dev/v1alpha1\nkind: AuroraCluster\nmetadata: {name: shop}\n";

    fn refused(text: &str) -> String {
        parse(text).expect_err("it is wrong").iter().map(SpecError::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn unknown_fields_are_refused_with_the_ones_allowed() {
        let said = refused(&format!("{HEAD}spec: {{replicas: 3, storage: {{disks: 6}}}}"));
        assert!(said.contains("spec.replicas: unknown field; allowed here: mode, instances"), "{said}");
        assert!(said.contains("spec.storage.disks: unknown field; allowed here: nodes, size"), "{said}");
    }

    #[test]
    fn unknown_fields_are_found_inside_lists() {
        let said = refused(&format!("{HEAD}spec: {{instanceTemplate: {{tolerations: [{{keys: a}}]}}}}"));
        assert!(said.contains("spec.instanceTemplate.tolerations[0].keys: unknown field"), "{said}");
    }

    #[test]
    fn names_inside_maps_are_the_users() {
        let text =
            format!("{HEAD}spec: {{parameters: {{whatever: 1}}, storageTemplate: {{labels: {{a: b}}}}}}");
        assert!(parse(&text).is_ok());
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_its_place() {
        let said = refused(&format!("{HEAD}spec: {{instances: many}}"));
        assert!(said.contains("spec.instances") && said.contains("line 4"), "{said}");
    }

    #[test]
    fn other_kinds_and_several_objects_are_refused() {
        assert!(refused("apiVersion: v1\nkind: Secret\nmetadata: {name: a}").contains("not Secret"));
        assert!(refused(&format!("{HEAD}---\n{HEAD}")).contains("it holds 2"));
        assert!(refused("# nothing\n").contains("it holds 0"));
        assert!(refused(": : :\n\t-").contains("must be YAML"));
    }

    #[test]
    fn empty_documents_around_the_object_do_not_matter() {
        assert_eq!(parse(&format!("---\n{HEAD}---\n")).expect("one object").metadata.name, "shop");
    }
}
