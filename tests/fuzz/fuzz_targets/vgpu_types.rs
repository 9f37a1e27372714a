//! The driver's list of profiles, and their names.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for offer in nvidia::parse_creatable(&text) {
        assert!(offer.id > 0 && !offer.name.is_empty() && offer.name.trim() == offer.name);
        // what is listed can be written down and read again
        let line = format!("{:<5} : {}\n", offer.id, offer.name);
        assert_eq!(nvidia::parse_creatable(&line), [offer]);
    }
    if let Some(profile) = nvidia::Profile::parse(&text) {
        assert_eq!(nvidia::Profile::parse(profile.short()), Some(profile.clone()));
        assert!(profile.mib() >= 512);
    }
});
