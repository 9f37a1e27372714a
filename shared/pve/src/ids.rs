//! Which users of the host a container's users are.

use crate::Conf;
use crate::guest::is_unprivileged;

/// What Proxmox VE maps where a container names no map (PVE::LXC::parse_id_maps).
const DEFAULT: [IdMap; 2] = [
    IdMap { kind: 'u', inside: 0, host: 100_000, count: 65_536 },
    IdMap { kind: 'g', inside: 0, host: 100_000, count: 65_536 },
];

/// One line `lxc.idmap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// `u` or `g`.
    pub kind: char,
    /// First id in the container.
    pub inside: u32,
    /// First id on the host.
    pub host: u32,
    /// How many.
    pub count: u32,
}

impl IdMap {
    /// As `lxc-usernsexec -m` takes it.
    pub fn argument(&self) -> String {
        format!("{}:{}:{}:{}", self.kind, self.inside, self.host, self.count)
    }

    fn parse(value: &str) -> Option<IdMap> {
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        let [kind @ ("u" | "g"), inside, host, count] = words[..] else { return None };
        Some(IdMap {
            kind: if kind == "u" { 'u' } else { 'g' },
            inside: inside.parse().ok()?,
            host: host.parse().ok()?,
            count: count.parse().ok()?,
        })
    }
}

/// The maps of a container; none where its users are the host's. Errors: a line
/// that is not a map, with which the container does not start either.
pub fn id_maps(conf: &Conf) -> Result<Vec<IdMap>, String> {
    if !is_unprivileged(conf) {
        return Ok(Vec::new());
    }
    let lines: Vec<&str> = conf
        .effective_lxc()
        .filter(|(key, _)| *key == "lxc.idmap")
        .map(|(_, value)| value)
        .collect();
    if lines.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    let maps = lines.iter().map(|line| {
        IdMap::parse(line).ok_or_else(|| format!("'lxc.idmap: {line}' is not an ID map"))
    });
    maps.collect()
}

/// User and group of the host that the container's root is. Errors: no map covers it.
pub fn root_ids(maps: &[IdMap]) -> Result<(u32, u32), String> {
    if maps.is_empty() {
        return Ok((0, 0));
    }
    let of = |kind: char| {
        let map = maps.iter().find(|map| map.kind == kind && map.inside == 0 && map.count > 0);
        map.map(|map| map.host)
            .ok_or_else(|| "its lxc.idmap does not map the container's root".to_string())
    };
    Ok((of('u')?, of('g')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Result<(u32, u32), String> {
        root_ids(&id_maps(&Conf::parse(text.as_bytes()))?)
    }

    #[test]
    fn root_is_who_the_configuration_says() {
        assert_eq!(ids("hostname: a\n"), Ok((0, 0)));
        assert_eq!(ids("unprivileged: 1\n"), Ok((100_000, 100_000)));
        let own = "lxc.idmap: u 0 200000 1000\nlxc.idmap = g 0 300000 44\n\
            lxc.idmap: g 44 44 1\nlxc.idmap: g 45 300045 1000\n";
        assert_eq!(ids(own), Ok((200_000, 300_000)));
        assert!(ids("lxc.idmap: u 5 200000 1000\nlxc.idmap: g 0 1 1\n").is_err());
        assert!(ids("lxc.idmap: u 0 x 1000\n").is_err());
    }
}
