//! The files that pmxcfs makes up when they are read.

use crate::store::{Report, Store};

impl Report {
    pub fn text(self, store: &Store, quorate: bool) -> String {
        match self {
            Report::Vmlist => store.guests.report(),
            Report::Version => format!(
                "{{\n\"starttime\": {},\n\"clinfo\": 1,\n\"vmlist\": {},\n\"kvstore\": {{\n\"{}\": {{ }}\n}}\n}}\n",
                store.started, store.guests.version, store.node
            ),
            Report::Members => members(store, quorate),
        }
    }
}

fn members(store: &Store, quorate: bool) -> String {
    let nodes = store.nodes();
    let line = |(at, name): (usize, &String)| {
        let online = u8::from(quorate || *name == store.node);
        format!("  \"{name}\": {{ \"id\": {}, \"online\": {online}}}", at + 1)
    };
    let lines: Vec<String> = nodes.iter().enumerate().map(line).collect();
    format!(
        "{{\n\"nodename\": \"{}\",\n\"version\": 1,\n\"cluster\": {{ \"name\": \"test\", \"version\": \
         1, \"nodes\": {}, \"quorate\": {} }},\n\"nodelist\": {{\n{}\n  }}\n}}\n",
        store.node,
        nodes.len(),
        u8::from(quorate),
        lines.join(",\n")
    )
}
