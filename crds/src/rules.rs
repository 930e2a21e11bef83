//! What is allowed in a specification: each rule once as CEL, which the API server evaluates, and its sentence,
//! which [`crate::validate`] gives too.
//!
//! Rules are added to the generated schema by `resource::definition`; none of them needs a webhook.

/// One rule of the custom resource's schema.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Where the rule stands: names of properties from the root of the object; empty: the object itself.
    pub at: &'static [&'static str],
    /// The expression: true where the value is allowed.
    pub expression: &'static str,
    /// What is allowed, in one sentence.
    pub message: &'static str,
}

/// Limits that let the API server bound the cost of the rules: a property and a keyword of its schema.
pub const BOUNDS: &[(&[&str], &str, u64)] = &[
    (&["spec", "promotionTiers"], "maxProperties", 16),
    (&["spec", "parameters"], "maxProperties", 128),
    (&["spec", "database"], "maxLength", 256),
    (&["spec", "storage", "size"], "maxLength", 64),
    (&["spec", "storage", "storageClassName"], "maxLength", 253),
    (&["spec", "credentials", "secretName"], "maxLength", 253),
];

/// Longest name of a cluster: what is left of a label's 63 bytes after `-storage-` and a revision's hash.
pub const NAME_LENGTH_MAX: usize = 40;
/// Most instances of a cluster: what AUTO_INCREMENT's increment of 16 gives room for.
pub const INSTANCES_MAX: i32 = 16;
/// Last promotion tier.
pub const TIER_MAX: i32 = 15;

pub(crate) const NAME: &str = "metadata.name must be 1 to 40 lower-case letters, digits or -, begin with a letter and end with a letter or digit";
pub(crate) const NAME_SUFFIX: &str =
    "metadata.name must not end in -storage: the storage nodes of another cluster may have that name";
pub(crate) const MODE_FIXED: &str =
    "mode cannot change: create a cluster of the other mode and copy the data into it";
pub(crate) const INSTANCES: &str = "instances must be 1 to 16";
pub(crate) const TIER_VALUES: &str = "promotion tiers must be 0 (first) to 15";
pub(crate) const TIER_NAMES: &str =
    "promotionTiers must name instances: the cluster's name, - and a number from 0 to 15, such as shop-2";
pub(crate) const TIER_MODE: &str = "promotionTiers are for mode SingleMaster: in mode MultiMaster every instance writes and none is promoted";
pub(crate) const STORAGE_NODES: &str = "storage.nodes must be 3 or 6";
pub(crate) const STORAGE_NODES_FIXED: &str = "storage.nodes cannot change";
pub(crate) const STORAGE_SIZE: &str =
    "storage.size must be a whole number with one of Ki, Mi, Gi, Ti, k, M, G or T, such as 10Gi";
pub(crate) const STORAGE_SIZE_FIXED: &str = "storage.size cannot change";
pub(crate) const STORAGE_CLASS_FIXED: &str = "storage.storageClassName cannot change";
pub(crate) const DATABASE: &str = "database must be 1 to 64 letters, digits or _, and none of mysql, information_schema, performance_schema and sys";
pub(crate) const DATABASE_FIXED: &str =
    "database cannot change: create further databases with CREATE DATABASE";
pub(crate) const SECRET_NAME: &str = "credentials.secretName must be 1 to 253 lower-case letters, digits, - or ., and begin and end with a letter or digit";
pub(crate) const PARAMETER_NAMES: &str = "parameters must be named like server variables: 1 to 64 lower-case letters, digits or _, beginning with a letter";

/// Every rule of the resource.
pub const RULES: &[Rule] = &[
    Rule {
        at: &[],
        expression: "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        message: NAME,
    },
    Rule { at: &[], expression: "!self.metadata.name.endsWith('-storage')", message: NAME_SUFFIX },
    Rule {
        at: &[],
        expression: "!has(self.spec.promotionTiers) || self.spec.promotionTiers.all(name, name.startsWith(self.metadata.name + '-') && name.matches('-([0-9]|1[0-5])$') && size(name) <= size(self.metadata.name) + 3)",
        message: TIER_NAMES,
    },
    Rule {
        at: &["spec"],
        expression: "self.mode == 'SingleMaster' || !has(self.promotionTiers) || size(self.promotionTiers) == 0",
        message: TIER_MODE,
    },
    Rule { at: &["spec", "mode"], expression: "self == oldSelf", message: MODE_FIXED },
    Rule { at: &["spec", "instances"], expression: "self >= 1 && self <= 16", message: INSTANCES },
    Rule {
        at: &["spec", "promotionTiers"],
        expression: "self.all(name, self[name] >= 0 && self[name] <= 15)",
        message: TIER_VALUES,
    },
    Rule { at: &["spec", "storage", "nodes"], expression: "self == 3 || self == 6", message: STORAGE_NODES },
    Rule { at: &["spec", "storage", "nodes"], expression: "self == oldSelf", message: STORAGE_NODES_FIXED },
    Rule {
        at: &["spec", "storage", "size"],
        expression: "self.matches('^[1-9][0-9]{0,8}([KMGT]i|[kMGT])$')",
        message: STORAGE_SIZE,
    },
    Rule { at: &["spec", "storage", "size"], expression: "self == oldSelf", message: STORAGE_SIZE_FIXED },
    Rule {
        at: &["spec", "storage"],
        expression: "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
        message: STORAGE_CLASS_FIXED,
    },
    Rule {
        at: &["spec", "database"],
        expression: "self.matches('^[A-Za-z0-9_]{1,64}$') && !(self.lowerAscii() in ['mysql', 'information_schema', 'performance_schema', 'sys'])",
        message: DATABASE,
    },
    Rule { at: &["spec", "database"], expression: "self == oldSelf", message: DATABASE_FIXED },
    Rule {
        at: &["spec", "credentials", "secretName"],
        expression: "self.matches('^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$')",
        message: SECRET_NAME,
    },
    Rule {
        at: &["spec", "parameters"],
        expression: "self.all(name, name.matches('^[a-z][a-z0-9_]{0,63}$'))",
        message: PARAMETER_NAMES,
    },
];
