//! The declaration macros.

/// Declares objects: each a struct with its declaration in the scheme.
///
/// ```
/// cocoon_tl::tl_objects! {
///     /// Asks for a poem.
///     "demo.ask (topic:string) flags:# lines:flags.0?int = demo.Poem",
///     pub struct Ask {
///         /// What the poem is about; not for logs.
///         @hidden topic: String,
///         /// Unknown flag bits.
///         flags: Flags,
///         /// How long it may be: present when bit 0 is set.
///         lines(flags.0): i32,
///     }
/// }
/// # use cocoon_tl::{Constructor, Flags};
/// let ask = Ask { topic: "rain".into(), flags: Flags::NONE, lines: Some(4) };
/// assert_eq!(Ask::NAME, "demo.ask");
/// assert_eq!(cocoon_tl::from_boxed::<Ask>(&cocoon_tl::to_boxed(&ask)), Ok(ask));
/// ```
///
/// * Fields are read and written in the order given. `name(flags.N): T` declares an `Option<T>`.
/// * Several consecutive fields under one bit are one `Option` of a group, declared in the same way as an
///   object but without a declaration text, so that they are present or absent together.
/// * The field `flags` must be called so; it is a [`Flags`](crate::Flags).
/// * A type may have one `#[derive(...)]`, between its documentation and its declaration; `Clone` and `PartialEq`
///   are always there.
/// * `@hidden` keeps the field out of `Debug`. Secrets, prompts and answers carry it.
#[macro_export]
macro_rules! tl_objects {
    () => {};

    // An object with a declaration, or a group of fields without one.
    (
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:ident),*)])?
        $($declaration:literal,)?
        pub struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                $(@$hidden:ident)? $field:ident $((flags.$bit:literal))?: $ty:ty
            ),* $(,)?
        }
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        $(
            #[doc = ""]
            #[doc = concat!("Scheme: `", $declaration, "`")]
        )?
        #[derive(Clone, PartialEq $($(, $derive)*)?)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $crate::tl_objects!(@type $ty $(, $bit)?),)*
        }

        $(
            impl $crate::Constructor for $name {
                const ID: u32 = $crate::constructor_id($declaration);
                const NAME: &'static str = $crate::constructor_name($declaration);
                const DECL: &'static str = $declaration;
                const FIELDS: &'static [&'static str] = $name::FIELD_NAMES;
            }
        )?

        impl $name {
            /// The names of the fields in wire order; a group counts as one field.
            pub const FIELD_NAMES: &'static [&'static str] = &[$(stringify!($field)),*];
        }

        impl $crate::TlRead for $name {
            #[allow(unused_mut, unused_variables, unused_assignments)]
            fn read(reader: &mut $crate::Reader<'_>) -> Result<Self, $crate::TlError> {
                // Bits to which this object attaches a field, and the bits that were read.
                const ATTACHED: u32 = 0 $($(| (1 << $bit))?)*;
                let mut bits = 0u32;
                $(
                    let $field = $crate::tl_objects!(@read $field, reader, bits, ATTACHED $(, $bit)?);
                )*
                Ok(Self { $($field),* })
            }
        }

        impl $crate::TlWrite for $name {
            #[allow(unused_variables)]
            fn write(&self, out: &mut Vec<u8>) {
                const ATTACHED: u32 = 0 $($(| (1 << $bit))?)*;
                let present = 0u32 $($(| (u32::from(self.$field.is_some()) << $bit))?)*;
                $($crate::tl_objects!(@write $field, self.$field, out, present, ATTACHED $(, $bit)?);)*
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), $crate::tl_objects!(@debug self.$field $(, $hidden)?)))*
                    .finish()
            }
        }

        $crate::tl_objects! { $($rest)* }
    };

    (@type $ty:ty) => { $ty };
    (@type $ty:ty, $bit:literal) => { Option<$ty> };

    (@read flags, $reader:ident, $bits:ident, $attached:ident) => {{
        $bits = $reader.nat()?;
        $crate::Flags($bits & !$attached)
    }};
    (@read $field:ident, $reader:ident, $bits:ident, $attached:ident) => {
        $crate::TlRead::read($reader)?
    };
    (@read $field:ident, $reader:ident, $bits:ident, $attached:ident, $bit:literal) => {
        if $bits & (1 << $bit) != 0 { Some($crate::TlRead::read($reader)?) } else { None }
    };

    (@write flags, $value:expr, $out:ident, $present:ident, $attached:ident) => {
        $out.extend_from_slice(&$value.to_write($attached, $present).to_le_bytes())
    };
    (@write $field:ident, $value:expr, $out:ident, $present:ident, $attached:ident) => {
        $crate::TlWrite::write(&$value, $out)
    };
    (@write $field:ident, $value:expr, $out:ident, $present:ident, $attached:ident, $bit:literal) => {
        if let Some(value) = &$value {
            $crate::TlWrite::write(value, $out)
        }
    };

    (@debug $value:expr) => { &$value };
    (@debug $value:expr, hidden) => { &$crate::Hidden };
}

/// Declares a union: an enum of constructors that is always read and written boxed.
///
/// ```
/// cocoon_tl::tl_objects! {
///     /// Heads.
///     "demo.heads = demo.Coin", pub struct Heads {}
///     /// Tails.
///     "demo.tails = demo.Coin", pub struct Tails {}
/// }
/// cocoon_tl::tl_union! {
///     /// A coin that was thrown.
///     pub enum Coin {
///         /// The front.
///         Heads(Heads),
///         /// The back.
///         Tails(Tails),
///     }
/// }
/// let bytes = cocoon_tl::to_boxed(&Tails {});
/// assert_eq!(cocoon_tl::from_boxed(&bytes), Ok(Coin::Tails(Tails {})));
/// ```
#[macro_export]
macro_rules! tl_union {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident($ty:ty)),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant($ty)),*
        }

        impl $name {
            /// The scheme's name of the constructor at hand.
            pub fn constructor_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$ty as $crate::Constructor>::NAME),*
                }
            }
        }

        impl $crate::Boxed for $name {
            fn read_boxed(reader: &mut $crate::Reader<'_>) -> Result<Self, $crate::TlError> {
                match reader.u32()? {
                    $(<$ty as $crate::Constructor>::ID => {
                        Ok(Self::$variant($crate::TlRead::read(reader)?))
                    })*
                    found => Err($crate::TlError::UnknownConstructor {
                        found,
                        offset: reader.offset(),
                    }),
                }
            }

            fn write_boxed(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(object) => $crate::Boxed::write_boxed(object, out)),*
                }
            }
        }

        impl $crate::TlRead for $name {
            fn read(reader: &mut $crate::Reader<'_>) -> Result<Self, $crate::TlError> {
                $crate::Boxed::read_boxed(reader)
            }
        }

        impl $crate::TlWrite for $name {
            fn write(&self, out: &mut Vec<u8>) {
                $crate::Boxed::write_boxed(self, out);
            }
        }

        $(
            impl From<$ty> for $name {
                fn from(object: $ty) -> Self {
                    Self::$variant(object)
                }
            }
        )*
    };
}
