//! From a manifest to a cluster that needs no further checks. Pure; says of every mistake what is allowed, in
//! the API server's own sentences ([`crate::rules`]).
//!
//! What forbids a change (of the mode, say) is checked by [`validate_change`].

use std::collections::BTreeMap;

use crate::cluster::{
    API_VERSION, AuroraClusterSpec, CredentialsSpec, KIND, Mode, PodTemplate, ServiceSpec, StorageSpec,
    TlsMode, TlsSpec,
};
use crate::manifest::AuroraClusterManifest;
use crate::names::ClusterName;
use crate::rules;

/// One mistake in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SpecError {
    /// Where: the field's path, such as `spec.instances`.
    pub field: String,
    /// What is allowed there, in one sentence.
    pub message: String,
}

impl SpecError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> SpecError {
        SpecError { field: field.into(), message: message.into() }
    }
}

/// A cluster whose every field is allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedCluster {
    /// Its name.
    pub name: ClusterName,
    /// Its mode.
    pub mode: Mode,
    /// Number of instances, 1 to 16.
    pub instances: u16,
    /// Number of storage nodes, 3 or 6.
    pub storage_nodes: u8,
    /// Size of a storage node's volume, as a Kubernetes quantity.
    pub storage_size: String,
    /// Storage class of the volumes.
    pub storage_class: Option<String>,
    /// The database created at first start.
    pub database: String,
    /// Name of the Secret with user name and password.
    pub secret_name: String,
    /// Server variables, as text.
    pub parameters: BTreeMap<String, String>,
    /// The endpoints' Services.
    pub service: ServiceSpec,
    /// Additions to the instances' pods.
    pub instance_template: PodTemplate,
    /// Additions to the storage nodes' pods.
    pub storage_template: PodTemplate,
    tiers: BTreeMap<u16, u8>,
}

impl ValidatedCluster {
    /// Promotion tier of an instance: 0 is first, 15 last, and 1 where none is given.
    pub fn tier(&self, ordinal: u16) -> u8 {
        self.tiers.get(&ordinal).copied().unwrap_or(1)
    }

    /// The instances whose tier is given, by ordinal, whether they exist at this number of instances or not.
    pub fn tiers(&self) -> impl Iterator<Item = (u16, u8)> + '_ {
        self.tiers.iter().map(|(ordinal, tier)| (*ordinal, *tier))
    }
}

/// Checks a manifest.
///
/// # Errors
///
/// Every mistake in it, not only the first.
pub fn validate(manifest: &AuroraClusterManifest) -> Result<ValidatedCluster, Vec<SpecError>> {
    let mut errors = Vec::new();
    if manifest.api_version != API_VERSION {
        errors.push(SpecError::new("apiVersion", format!("apiVersion must be {API_VERSION}")));
    }
    if manifest.kind != KIND {
        errors.push(SpecError::new("kind", format!("kind must be {KIND}")));
    }
    match validate_spec(&manifest.metadata.name, &manifest.spec) {
        Ok(cluster) if errors.is_empty() => Ok(cluster),
        Ok(_) => Err(errors),
        Err(more) => {
            errors.extend(more);
            Err(errors)
        }
    }
}

/// Checks a specification and the name of its cluster.
///
/// # Errors
///
/// Every mistake in it, not only the first.
pub fn validate_spec(name: &str, spec: &AuroraClusterSpec) -> Result<ValidatedCluster, Vec<SpecError>> {
    // A new field fails to compile here.
    let AuroraClusterSpec {
        mode,
        instances,
        promotion_tiers,
        storage: StorageSpec { nodes, size, storage_class_name },
        database,
        credentials: CredentialsSpec { secret_name },
        parameters,
        tls: TlsSpec { mode: TlsMode::Disabled },
        service,
        instance_template,
        storage_template,
    } = spec;
    let mut errors = Vec::new();
    let mut require = |allowed: bool, field: &str, message: &str| {
        if !allowed {
            errors.push(SpecError::new(field, message));
        }
    };
    require(ClusterName::is_well_formed(name), "metadata.name", rules::NAME);
    require(!name.ends_with("-storage"), "metadata.name", rules::NAME_SUFFIX);
    require((1..=rules::INSTANCES_MAX).contains(instances), "spec.instances", rules::INSTANCES);
    require(matches!(nodes, 3 | 6), "spec.storage.nodes", rules::STORAGE_NODES);
    require(is_size(size), "spec.storage.size", rules::STORAGE_SIZE);
    require(is_database(database), "spec.database", rules::DATABASE);
    let secret_name = secret_name.clone().unwrap_or_else(|| format!("{name}-admin"));
    require(is_subdomain(&secret_name), "spec.credentials.secretName", rules::SECRET_NAME);
    require(parameters.keys().all(|key| is_variable(key)), "spec.parameters", rules::PARAMETER_NAMES);
    let single = matches!(mode, Mode::SingleMaster);
    require(single || promotion_tiers.is_empty(), "spec.promotionTiers", rules::TIER_MODE);
    let values_allowed = promotion_tiers.values().all(|tier| (0..=rules::TIER_MAX).contains(tier));
    require(values_allowed, "spec.promotionTiers", rules::TIER_VALUES);
    let tiers: BTreeMap<u16, u8> = promotion_tiers
        .iter()
        .filter_map(|(instance, tier)| Some((ordinal_of(name, instance)?, u8::try_from(*tier).ok()?)))
        .collect();
    let names_allowed = promotion_tiers.keys().all(|instance| ordinal_of(name, instance).is_some());
    require(names_allowed, "spec.promotionTiers", rules::TIER_NAMES);

    let (Some(name), true) = (ClusterName::new(name), errors.is_empty()) else { return Err(errors) };
    Ok(ValidatedCluster {
        name,
        mode: *mode,
        instances: u16::try_from(*instances).expect("it is within 1 to 16"),
        storage_nodes: u8::try_from(*nodes).expect("it is 3 or 6"),
        storage_size: size.clone(),
        storage_class: storage_class_name.clone(),
        database: database.clone(),
        secret_name,
        parameters: parameters.iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
        service: service.clone(),
        instance_template: instance_template.clone(),
        storage_template: storage_template.clone(),
        tiers,
    })
}

/// Checks that nothing changed which cannot.
///
/// # Errors
///
/// Every field that changed and cannot.
pub fn validate_change(old: &AuroraClusterSpec, new: &AuroraClusterSpec) -> Result<(), Vec<SpecError>> {
    let fixed = [
        (old.mode == new.mode, "spec.mode", rules::MODE_FIXED),
        (old.storage.nodes == new.storage.nodes, "spec.storage.nodes", rules::STORAGE_NODES_FIXED),
        (old.storage.size == new.storage.size, "spec.storage.size", rules::STORAGE_SIZE_FIXED),
        (
            old.storage.storage_class_name == new.storage.storage_class_name,
            "spec.storage.storageClassName",
            rules::STORAGE_CLASS_FIXED,
        ),
        (old.database == new.database, "spec.database", rules::DATABASE_FIXED),
    ];
    let errors: Vec<SpecError> = fixed
        .iter()
        .filter(|(same, ..)| !same)
        .map(|(_, field, message)| SpecError::new(*field, *message))
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The ordinal of an instance's name: `shop-2` of `shop` is 2.
fn ordinal_of(cluster: &str, instance: &str) -> Option<u16> {
    let digits = instance.strip_prefix(cluster)?.strip_prefix('-')?;
    let ordinal: u16 = digits.parse().ok()?;
    (ordinal.to_string() == digits && i32::from(ordinal) < rules::INSTANCES_MAX).then_some(ordinal)
}

fn is_size(size: &str) -> bool {
    let digits = size.bytes().take_while(u8::is_ascii_digit).count();
    let unit = &size[digits..];
    (1..=9).contains(&digits)
        && !size.starts_with('0')
        && matches!(unit, "Ki" | "Mi" | "Gi" | "Ti" | "k" | "M" | "G" | "T")
}

fn is_database(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !["mysql", "information_schema", "performance_schema", "sys"]
            .contains(&name.to_ascii_lowercase().as_str())
}

fn is_subdomain(name: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=253).contains(&bytes.len())
        && bytes.iter().all(|&byte| alphanumeric(byte) || byte == b'-' || byte == b'.')
        && bytes.first().copied().is_some_and(alphanumeric)
        && bytes.last().copied().is_some_and(alphanumeric)
}

fn is_variable(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests;
