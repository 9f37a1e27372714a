//! Names of what can be wrong.

/// Makes `Cause`, the causes that a tool's `check` records name, and `CAUSES`,
/// their names and meanings, from one list: variant, name, meaning.
#[macro_export]
macro_rules! causes {
    ($($variant:ident $name:literal $what:literal,)*) => {
        /// What is wrong, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Cause { $(#[doc = $what] $variant,)* }

        /// Names and meanings of all causes that this tool's `check` records give.
        pub const CAUSES: &[(&str, &str)] = &[$(($name, $what),)*];

        impl Cause {
            /// Its name in records.
            pub fn name(self) -> &'static str {
                match self { $(Cause::$variant => $name,)* }
            }
        }
    };
}
