//! Everything that reads bytes of others, as functions to feed any bytes to.
//! They panic where a parser gives what cannot be. For tests only: the short
//! campaign feeds them mutated seeds, `tests/fuzz` lets coverage guide it.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod archives;
mod texts;

pub use archives::dialects;

/// One parser.
pub struct Parser {
    pub name: &'static str,
    /// Valid input, to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Panics where something is wrong.
    pub run: fn(&[u8]),
}

/// All of them.
pub fn all() -> Vec<Parser> {
    let parser = |name, seeds, run| Parser { name, seeds, run };
    vec![
        parser("guest-conf", texts::guest_seeds, texts::guest_conf),
        parser("records", texts::record_seeds, texts::records),
        parser("vgpu-input", texts::vgpu_input_seeds, texts::vgpu_input),
        parser("vgpu-types", texts::vgpu_types_seeds, texts::vgpu_types),
        parser("kernel-text", texts::kernel_seeds, texts::kernel_text),
        parser("pci-ids", texts::pci_ids_seeds, texts::pci_ids),
        parser("boot-list", texts::boot_list_seeds, texts::boot_list),
        parser("digest-lists", texts::digest_seeds, texts::digest_lists),
        parser("manifest", texts::manifest_seeds, texts::manifest),
        parser("supported-gpus", texts::gpus_seeds, texts::supported_gpus),
        parser("run-file", dialects, archives::run_file),
        parser("tar", archives::tar_seeds, archives::tar),
        parser("kernel-module", archives::module_seeds, archives::kernel_module),
        parser("openpgp", archives::key_seeds, archives::openpgp),
    ]
}
