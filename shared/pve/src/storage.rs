//! /etc/pve/storage.cfg: where a container's volume is, when it is a directory.

use std::collections::BTreeMap;

use host::Machine;

/// One storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Storage {
    kind: String,
    options: BTreeMap<String, String>,
}

/// Directory of a volume such as `local-zfs:subvol-901-disk-0`. `Err` says why
/// there is none on this host: most kinds of storage are block devices.
pub(crate) fn directory(machine: &Machine, volume: &str) -> Result<String, String> {
    // a directory of the host may be given itself
    if volume.starts_with('/') {
        return Ok(volume.into());
    }
    let (id, name) = volume.split_once(':').ok_or_else(|| format!("'{volume}' is not a volume"))?;
    let text = match machine.read_text("/etc/pve/storage.cfg", 1 << 20) {
        Err(error) if error.is_not_found() => String::new(),
        text => text.map_err(|error| error.to_string())?,
    };
    let mut storages = parse(&text);
    // it exists without an entry (PVE::Storage::Plugin, default_config)
    storages.entry("local".into()).or_insert_with(|| Storage {
        kind: "dir".into(),
        options: BTreeMap::from([("path".to_string(), "/var/lib/vz".to_string())]),
    });
    let storage = storages.get(id).ok_or_else(|| format!("no storage '{id}'"))?;
    let option = |name: &str| storage.options.get(name).map(String::as_str);
    let plain = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !plain {
        return Err(format!("'{name}' is not the name of a volume"));
    }
    match storage.kind.as_str() {
        "zfspool" => {
            let pool = option("pool").ok_or_else(|| format!("storage '{id}' names no pool"))?;
            let at = option("mountpoint").map_or_else(|| format!("/{pool}"), str::to_string);
            // a linked clone is written base-.../subvol-...
            let own = name.rsplit('/').next().unwrap_or(name);
            if own.starts_with("vm-") {
                return Err(format!("its volume '{volume}' is a zvol, which is not a directory"));
            }
            Ok(format!("{}/{own}", at.trim_end_matches('/')))
        }
        "dir" | "btrfs" | "nfs" | "cifs" | "cephfs" if name.ends_with(".subvol") => {
            let default = format!("/mnt/pve/{id}");
            let path = option("path").unwrap_or(&default);
            // 'content-dirs images=guests,iso=...' names another directory
            let dirs = option("content-dirs").unwrap_or_default();
            let images = dirs.split(',').find_map(|one| one.trim().strip_prefix("images="));
            let images = images.unwrap_or("images").trim_matches('/');
            Ok(format!("{}/{images}/{name}", path.trim_end_matches('/')))
        }
        kind => Err(format!("its volume '{volume}' ({kind}) is not a directory on the host")),
    }
}

/// Sections `kind: id` with indented `key value` lines (PVE::SectionConfig).
fn parse(text: &str) -> BTreeMap<String, Storage> {
    let mut storages = BTreeMap::new();
    let mut current: Option<(String, Storage)> = None;
    for line in text.lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        if line.starts_with(char::is_whitespace) {
            if let Some((_, storage)) = &mut current {
                let (key, value) = line.trim().split_once(char::is_whitespace).unwrap_or_default();
                storage.options.insert(key.into(), value.trim().into());
            }
            continue;
        }
        storages.extend(current.take());
        if let Some((kind, id)) = line.split_once(':') {
            let storage = Storage { kind: kind.trim().into(), options: BTreeMap::new() };
            current = Some((id.trim().into(), storage));
        }
    }
    storages.extend(current);
    storages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read() {
        let storages = parse(
            "dir: local\n\tpath /var/lib/vz\n\tcontent iso\n\nzfspool: z\n\tpool rpool/data\n\tsparse\n",
        );
        assert_eq!(storages["local"].options["path"], "/var/lib/vz");
        assert_eq!(storages["z"].kind, "zfspool");
        assert_eq!(storages["z"].options["pool"], "rpool/data");
    }
}
