//! Why a profile is not as asked: the list that records and the manual page share.

record::causes! {
    CannotBe "cannot-be" "What is asked for does not fit, or the driver does not offer it.",
    NotSet "not-set" "Another profile is set, or none.",
    LeftAlone "left-alone" "Another profile is set, and apply would not touch it: somebody uses it, or it is Proxmox VE's own.",
}
