//! Prints the custom resource definition as YAML, in the form that `crds/yaml` holds.

use std::io::Write;

use crds::resource::definition;

fn main() -> std::io::Result<()> {
    let yaml = serde_yaml_ng::to_string(&definition()).map_err(std::io::Error::other)?;
    std::io::stdout().write_all(yaml.as_bytes())
}
