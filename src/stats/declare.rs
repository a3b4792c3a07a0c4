/// Declares a group of [`Stats`](super::Stats): its public struct, and all that is told of each
/// value in it. A new counter is a new entry here, and the place that counts it.
///
/// ```text
/// declare! {
///     /// Widgets.
///     pub struct WidgetStats, counted by WidgetCount, shown as "widgets" {
///         states {
///             /// Widgets there are now.
///             held: u64, shown as "held" {
///                 "resumption_widgets_held", "Widgets held.", Value::number(held);
///             }
///         }
///         counters {
///             /// Widgets made.
///             made as Made: "resumption_widgets_made_total";
///         }
///         reasons {
///             /// Widgets that were not made.
///             not_made: "resumption_widgets_not_made_total", shown as "not made";
///             /// Why a widget was not made.
///             struct NotMade {
///                 /// There was no steel.
///                 no_steel as NoSteel,
///             }
///         }
///     }
/// }
/// ```
///
/// * A *state* is of any type. It has any number of metrics: a name, a help text, an expression
///   over the state, and perhaps `, label "kind" = kind`.
/// * A *counter* is a `u64`. The first line of its doc comment is the help text of its metric, and
///   so must be one sentence. Several counters may be one metric, told apart by the label `reason`:
///   `lost: "resumption_widgets_gone_total", a reason of GONE;`, where `GONE` is the help text.
/// * *Reasons* are counters in a struct of their own, and one metric with the label `reason`. With
///   `, in all "not made"` the row of the group shows their sum.
/// * `as Made` makes `WidgetCount::Made`, by which a [`Counters`](crate::counters::Counters) counts
///   it. What has no such name is counted elsewhere: in the struct itself, under a lock.
/// * `shown as` is its name in the table for people; counters and reasons appear under their own
///   names. In a row the states come first, then the counters.
macro_rules! declare {
    (
        $(#[$doc:meta])*
        pub struct $stats:ident, counted by $count:ident, shown as $title:literal $body:tt
    ) => {
        declare! { $(#[$doc])* pub struct $stats, shown as $title $body }
        declare! { @count $stats $count $body }
    };
    // The structs, their metrics and their rows.
    (
        $(#[$doc:meta])*
        pub struct $stats:ident, shown as $title:literal {
            states {$(
                $(#[$state_doc:meta])*
                $state:ident: $type:ty $(, shown as $cell:literal)? {
                    $(
                        $gauge:literal, $gauge_help:literal, $value:expr
                            $(, label $key:literal = $label:expr)?;
                    )*
                }
            )*}
            counters {$(
                #[doc = $help:literal]
                $(#[$counter_doc:meta])*
                $counter:ident $(as $counted:ident)?: $metric:literal
                    $(, a reason of $whole:expr)?;
            )*}
            reasons {$(
                #[doc = $group_help:literal]
                $(#[$group_doc:meta])*
                $group:ident: $group_metric:literal, shown as $group_title:literal
                    $(, in all $all:literal)?;
                $(#[$reasons_doc:meta])*
                struct $reasons:ident {$(
                    $(#[$reason_doc:meta])*
                    $reason:ident $(as $counted_reason:ident)?,
                )*}
            )*}
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        #[non_exhaustive]
        pub struct $stats {
            $($(#[$state_doc])* pub $state: $type,)*
            $(#[doc = $help] $(#[$counter_doc])* pub $counter: u64,)*
            $(#[doc = $group_help] $(#[$group_doc])* pub $group: $reasons,)*
        }

        $(
            $(#[$reasons_doc])*
            #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
            #[non_exhaustive]
            pub struct $reasons {
                $($(#[$reason_doc])* pub $reason: u64,)*
            }

            impl $reasons {
                /// The sum over all reasons.
                pub fn total(&self) -> u64 {
                    [$(self.$reason),*].iter().sum()
                }
            }
        )*

        #[cfg(feature = "serde")]
        impl serde::Serialize for $stats {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;

                let mut map = serializer.serialize_map(None)?;
                $(
                    let state = $crate::stats::json::Told(&self.$state);
                    map.serialize_entry(stringify!($state), &state)?;
                )*
                $(map.serialize_entry(stringify!($counter), &self.$counter)?;)*
                $(map.serialize_entry(stringify!($group), &self.$group)?;)*
                map.end()
            }
        }

        $(
            #[cfg(feature = "serde")]
            impl serde::Serialize for $reasons {
                fn serialize<S: serde::Serializer>(
                    &self,
                    serializer: S,
                ) -> Result<S::Ok, S::Error> {
                    use serde::ser::SerializeMap as _;

                    let mut map = serializer.serialize_map(None)?;
                    $(map.serialize_entry(stringify!($reason), &self.$reason)?;)*
                    map.end()
                }
            }
        )*

        impl $stats {
            /// Every metric of the group with its value.
            #[cfg(feature = "metrics")]
            pub(super) fn samples(&self, samples: &mut Vec<$crate::stats::sample::Sample>) {
                use $crate::stats::sample::{Sample, Value};

                $(
                    #[allow(unused_variables, reason = "a state may have no metric")]
                    let $state = self.$state.clone();
                    $(
                        let sample = Sample::new($gauge, $gauge_help, $value);
                        $(let sample = sample.label($key, $label);)?
                        samples.push(sample);
                    )*
                )*
                $(
                    let sample = Sample::new($metric, $help, Value::Counter(self.$counter));
                    $(let sample = sample.label("reason", stringify!($counter)).help($whole);)?
                    samples.push(sample);
                )*
                $($(
                    let count = Value::Counter(self.$group.$reason);
                    let sample = Sample::new($group_metric, $group_help, count);
                    samples.push(sample.label("reason", stringify!($reason)));
                )*)*
            }

            /// The rows of the table for people.
            pub(super) fn rows(&self) -> Vec<$crate::stats::table::Row> {
                use $crate::stats::table::Row;

                let cells = [
                    $($(Some(($cell, self.$state)),)?)*
                    $(Some((stringify!($counter), self.$counter)),)*
                    $($(Some(($all, self.$group.total())),)?)*
                ];
                vec![
                    Row { title: $title, cells: cells.into_iter().flatten().collect() },
                    $(Row {
                        title: $group_title,
                        cells: vec![$((stringify!($reason), self.$group.$reason)),*],
                    },)*
                ]
            }
        }
    };
    // The enum by which they are counted.
    (
        @count $stats:ident $count:ident {
            states $states:tt
            counters {$(
                $(#[$counter_doc:meta])*
                $counter:ident $(as $counted:ident)?: $metric:literal
                    $(, a reason of $whole:expr)?;
            )*}
            reasons {$(
                $(#[$group_doc:meta])*
                $group:ident: $group_metric:literal, shown as $group_title:literal
                    $(, in all $all:literal)?;
                $(#[$reasons_doc:meta])*
                struct $reasons:ident {$(
                    $(#[$reason_doc:meta])*
                    $reason:ident $(as $counted_reason:ident)?,
                )*}
            )*}
        }
    ) => {
        #[doc = concat!("What is counted of [`", stringify!($stats), "`].")]
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum $count {
            $($($counted,)?)*
            $($($($counted_reason,)?)*)*
        }

        impl $crate::counters::Counted for $stats {
            type Count = $count;
            type Cells = [$crate::sync::atomic::AtomicU64;
                [$($($count::$counted,)?)* $($($($count::$counted_reason,)?)*)*].len()];

            fn index(count: $count) -> usize {
                count as usize
            }

            fn read(sum: impl Fn($count) -> u64) -> Self {
                let mut stats = Self::default();
                $($(stats.$counter = sum($count::$counted);)?)*
                $($($(stats.$group.$reason = sum($count::$counted_reason);)?)*)*
                stats
            }

            fn add(&mut self, other: &Self) {
                $(self.$counter = self.$counter.saturating_add(other.$counter);)*
                $($(
                    let all = &mut self.$group.$reason;
                    *all = all.saturating_add(other.$group.$reason);
                )*)*
            }
        }
    };
}

pub(super) use declare;
