//! The JSON Schemas, one a type, as they are installed with the package.

/// One type's schema.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Value of the `type` key.
    pub name: &'static str,
    /// JSON Schema 2020-12.
    pub text: &'static str,
}

macro_rules! schemas {
    ($($name:literal),* $(,)?) => {
        /// Every type that a tool prints, in the order of pve-gpu-records(5).
        pub const SCHEMAS: &[Schema] = &[
            $(Schema {
                name: $name,
                text: include_str!(concat!("../schema/", $name, ".schema.json")),
            }),*
        ];
    };
}

schemas!(
    "pci-device",
    "iommu-group",
    "change",
    "check",
    "lxc-gpu",
    "runfile",
    "runfile-entry",
    "vgpu",
    "vgpu-type",
    "vgpu-assignment",
    "stream",
    "error",
);
