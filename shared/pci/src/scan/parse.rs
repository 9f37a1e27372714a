//! Functions and groups made of what was read of them. Pure.

use std::io;

use host::child_read::ChildRead;
use record::{Address, Link};

use crate::Function;
use crate::alias::Modalias;
use crate::group::{Group, OtherMember, reserved_regions};
use crate::scan::attributes::{group_tag, parent, tag};

/// Understands what was read.
pub fn function(address: Address, answer: &ChildRead) -> Function {
    let mut f = Function::bare(address);
    let text = |tag: u8| {
        answer.bytes(tag).map(|b| String::from_utf8_lossy(b).trim_end_matches('\n').to_string())
    };
    let number = |tag: u8| text(tag).and_then(|t| t.trim().parse::<i64>().ok());
    let hex = |tag: u8| {
        text(tag).and_then(|t| u32::from_str_radix(t.trim().trim_start_matches("0x"), 16).ok())
    };
    f.parent = text(tag::LINK).and_then(|target| parent(&target));
    if let Some(of) = text(tag::MODALIAS).as_deref().and_then(Modalias::parse) {
        f.vendor = Some(of.vendor);
        f.device = Some(of.device);
        f.subsystem_vendor = Some(of.subsystem_vendor);
        f.subsystem_device = Some(of.subsystem_device);
        f.class = Some(of.class);
    } else {
        f.vendor = hex(tag::VENDOR).map(|n| n as u16);
        f.device = hex(tag::DEVICE).map(|n| n as u16);
        f.subsystem_vendor = hex(tag::SUBVENDOR).map(|n| n as u16);
        f.subsystem_device = hex(tag::SUBDEVICE).map(|n| n as u16);
        f.class = hex(tag::CLASS);
    }
    f.revision = hex(tag::REVISION).map(|n| n as u8);
    f.driver = text(tag::DRIVER);
    f.group = text(tag::GROUP).and_then(|t| t.parse().ok());
    f.pf = text(tag::PHYSFN).as_deref().and_then(Address::from_sysfs);
    let marked = |tag: u8| answer.bytes(tag).is_some();
    (f.bridge, f.vgpu_vendor, f.mdev) = (marked(tag::BUS), marked(tag::VGPU), marked(tag::MDEV));
    f.vfs = list(text(tag::VFS)).iter().filter_map(|n| Address::from_sysfs(n)).collect();
    f.vfio_device = list(text(tag::VFIO)).into_iter().find(|n| n.starts_with("vfio"));
    f.drm = list(text(tag::DRM))
        .into_iter()
        .filter(|n| n.starts_with("renderD") || is_card(n))
        .collect();
    f.boot_vga = number(tag::BOOT_VGA).map(|n| n != 0);
    f.boot_display = number(tag::BOOT_DISPLAY).map(|n| n != 0);
    f.vgpu_type = number(tag::VGPU).and_then(|n| u32::try_from(n).ok());
    f.numa_node = number(tag::NUMA).and_then(|n| u32::try_from(n).ok());
    f.reset_methods = text(tag::RESET)
        .map(|t| t.split_ascii_whitespace().map(str::to_string).collect())
        .unwrap_or_default();
    f.link = link(text(tag::SPEED), text(tag::WIDTH), text(tag::MAX_SPEED), text(tag::MAX_WIDTH));
    f.sriov_total = number(tag::TOTALVFS).and_then(|n| u32::try_from(n).ok());
    f.sriov_enabled = number(tag::NUMVFS).and_then(|n| u32::try_from(n).ok());
    f.driver_override = text(tag::OVERRIDE).filter(|t| !t.is_empty() && t != "(null)");
    f.warnings = warnings(answer);
    f
}

fn list(text: Option<String>) -> Vec<String> {
    text.map(|t| t.split('\n').filter(|n| !n.is_empty()).map(str::to_string).collect())
        .unwrap_or_default()
}

/// `card1`, but not its connectors (`card1-DP-1`).
fn is_card(name: &str) -> bool {
    name.strip_prefix("card")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The kernel prints `16.0 GT/s PCIe` (older: `8 GT/s`) and `Unknown`, and 0 or
/// 255 lanes where there is no link.
fn link(
    speed: Option<String>,
    width: Option<String>,
    max_speed: Option<String>,
    max_width: Option<String>,
) -> Option<Link> {
    let gts = |text: Option<String>| {
        text.and_then(|t| t.split(' ').next().and_then(|n| n.parse::<f64>().ok()))
            .filter(|n| n.is_finite() && *n > 0.0)
    };
    let lanes = |text: Option<String>| {
        text.and_then(|t| t.trim().parse::<u32>().ok()).filter(|n| (1..=64).contains(n))
    };
    let link = Link {
        speed_gts: gts(speed),
        width: lanes(width),
        max_speed_gts: gts(max_speed),
        max_width: lanes(max_width),
    };
    let known = link.speed_gts.is_some()
        || link.width.is_some()
        || link.max_speed_gts.is_some()
        || link.max_width.is_some();
    known.then_some(link)
}

/// Whether its link is that of the slot's function 0.
pub fn shares_link(answer: &ChildRead) -> bool {
    answer.bytes(tag::SHARED_LINK).is_some()
}

/// Whom the list of its group names.
pub fn listed_members(answer: &ChildRead) -> Vec<Address> {
    let names = answer.bytes(tag::GROUP_MEMBERS).map(|b| String::from_utf8_lossy(b).into_owned());
    list(names).iter().filter_map(|name| Address::from_sysfs(name)).collect()
}

/// What a person should know of reads that failed. An attribute that is not
/// there, or not for this function, is not a failure.
fn warnings(answer: &ChildRead) -> Vec<String> {
    if let Some(stuck) = answer.stuck_at {
        return vec![format!(
            "reading {} blocks in the kernel (is its driver stuck in unbind?); the rest is unknown",
            tag::name(stuck)
        )];
    }
    if answer.values.is_empty() {
        return vec!["could not be read".into()];
    }
    if answer.errno(tag::DIR).is_some() {
        return vec!["disappeared while it was read".into()];
    }
    answer
        .values
        .iter()
        .filter_map(|(tag, value)| Some((*tag, *value.as_ref().err()?)))
        .filter(|(tag, errno)| *tag != tag::MODALIAS || *errno != 2)
        .map(|(tag, errno)| {
            let reason = io::Error::from_raw_os_error(errno).to_string();
            let reason = reason.split(" (os error").next().unwrap_or("").to_lowercase();
            format!("cannot read {}: {reason}", tag::name(tag))
        })
        .collect()
}

/// A group; who is in it, its functions tell.
pub fn group(id: u32, answer: &ChildRead) -> Group {
    let text = |tag: u8| {
        answer.bytes(tag).map(|b| String::from_utf8_lossy(b).trim_end_matches('\n').to_string())
    };
    let mut group = Group::bare(id);
    group.name = text(group_tag::NAME);
    group.domain_type = text(group_tag::TYPE);
    group.reserved = reserved_regions(&text(group_tag::RESERVED).unwrap_or_default());
    group.others = list(text(group_tag::MEMBERS))
        .iter()
        .map(|line| {
            let (name, driver) = line.split_once('\t').unwrap_or((line, ""));
            OtherMember {
                name: name.to_string(),
                driver: (!driver.is_empty()).then(|| driver.to_string()),
            }
        })
        .collect();
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_numbers_or_nothing() {
        let some = |t: &str| Some(t.to_string());
        let link4 = |s, w, ms, mw| link(some(s), some(w), some(ms), some(mw));
        let known = link4("2.5 GT/s PCIe", "16", "16.0 GT/s PCIe", "16").unwrap();
        assert_eq!((known.speed_gts, known.max_speed_gts), (Some(2.5), Some(16.0)));
        let old = link4("8 GT/s", "8", "8 GT/s", "16").unwrap();
        assert_eq!((old.speed_gts, old.width), (Some(8.0), Some(8)));
        assert!(link4("Unknown", "0", "Unknown", "255").is_none());
        assert!(link(None, None, None, None).is_none());
    }

    #[test]
    fn connectors_are_no_drm_nodes() {
        assert!(is_card("card0") && is_card("card12"));
        assert!(!is_card("card0-DP-1") && !is_card("card") && !is_card("version"));
    }
}
