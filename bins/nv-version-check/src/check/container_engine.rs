//! A container engine inside an unprivileged container.

use advice::external;
use record::Hint;

use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::collect::checked_root::CheckedRoot;
use crate::collect::root_facts::RootFacts;

/// The finding that NVIDIA's runtime would try to set device rules, which an
/// unprivileged container must not.
pub fn finding(root: &CheckedRoot, facts: &RootFacts) -> Option<Finding> {
    let engine = facts.engine.as_ref().filter(|engine| !engine.no_cgroups)?;
    let ctid = root.ctid.filter(|_| root.unprivileged)?;
    let because = format!(
        "an unprivileged container cannot set device rules, so {} cannot give a GPU to its \
         containers",
        engine.name
    );
    Some(
        Finding::warning(Cause::NoCgroupsMissing)
            .on(&root.subject, format!("{} {}", engine.name, engine.config))
            .found(Some("no-cgroups = true"), Some("no-cgroups = false"))
            .because(because)
            .hint(Hint::command(external::pct_exec(ctid, external::nvidia_ctk_no_cgroups()))),
    )
}
