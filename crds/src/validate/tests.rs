use super::*;
use crate::manifest::parse;

fn shop(spec: &str) -> Result<ValidatedCluster, Vec<SpecError>> {
    let text = format!(
        "apiVersion: borealis.dev/v1alpha1\nkind: AuroraCluster\nmetadata: {{name: shop}}\nspec: {spec}\n"
    );
    validate(&parse(&text)?)
}

fn refused(spec: &str) -> String {
    let errors = shop(spec).expect_err("the specification is wrong");
    errors.iter().map(SpecError::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_empty_specification_is_a_single_master_cluster_of_three() {
    let cluster = shop("{}").expect("everything has a default");
    assert_eq!((cluster.mode, cluster.instances, cluster.storage_nodes), (Mode::SingleMaster, 3, 6));
    assert_eq!((cluster.secret_name.as_str(), cluster.database.as_str()), ("shop-admin", "app"));
}

#[test]
fn promotion_tiers_are_found_by_ordinal_and_default_to_one() {
    let cluster = shop("{promotionTiers: {shop-2: 0, shop-10: 15}}").expect("it is allowed");
    assert_eq!((cluster.tier(0), cluster.tier(2), cluster.tier(10)), (1, 0, 15));
}

#[test]
fn numbers_may_stand_with_or_without_quotes_in_parameters() {
    let cluster = shop(r#"{parameters: {max_connections: 200, sql_mode: "ANSI"}}"#).expect("it is allowed");
    assert_eq!(cluster.parameters["max_connections"], "200");
    assert_eq!(cluster.parameters["sql_mode"], "ANSI");
}

#[test]
fn no_instances_are_refused() {
    assert_eq!(refused("{instances: 0}"), "spec.instances: instances must be 1 to 16");
}

#[test]
fn four_storage_nodes_are_refused() {
    assert_eq!(refused("{storage: {nodes: 4}}"), "spec.storage.nodes: storage.nodes must be 3 or 6");
}

#[test]
fn tier_sixteen_is_refused() {
    let said = refused("{promotionTiers: {shop-1: 16}}");
    assert_eq!(said, "spec.promotionTiers: promotion tiers must be 0 (first) to 15");
}

#[test]
fn tiers_of_strangers_are_refused() {
    for name in ["other-1", "shop-16", "shop-01", "shop", "shop-", "shop-x"] {
        assert!(
            refused(&format!("{{promotionTiers: {{{name}: 1}}}}")).contains("must name instances"),
            "{name}"
        );
    }
}

#[test]
fn tiers_are_refused_in_multi_master_mode() {
    assert!(refused("{mode: MultiMaster, promotionTiers: {shop-1: 1}}").contains("none is promoted"));
}

#[test]
fn every_mistake_is_named_at_once() {
    let said = refused("{instances: 17, storage: {nodes: 5, size: 10Mib}, database: sys}");
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[test]
fn sizes_need_a_unit() {
    for size in ["10", "0Gi", "010Gi", "1.5Gi", "-1Gi", "Gi", "1000000000Gi"] {
        assert!(refused(&format!("{{storage: {{size: '{size}'}}}}")).contains("such as 10Gi"), "{size}");
    }
}

#[test]
fn a_wrong_mode_is_answered_with_the_right_ones() {
    let said = refused("{mode: Multi}");
    assert!(said.contains("SingleMaster") && said.contains("MultiMaster"), "{said}");
}

#[test]
fn a_change_of_mode_or_volume_is_refused() {
    let old = AuroraClusterSpec::default();
    let mut new = AuroraClusterSpec { mode: Mode::MultiMaster, ..old.clone() };
    new.storage.size = "20Gi".to_owned();
    let errors = validate_change(&old, &new).expect_err("neither may change");
    assert_eq!(
        errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(),
        ["spec.mode", "spec.storage.size"]
    );
    assert!(validate_change(&old, &AuroraClusterSpec { instances: 1, ..old.clone() }).is_ok());
}
