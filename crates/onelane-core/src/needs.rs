use serde::{Deserialize, Serialize};

/// What a job takes of the machine while it runs. Nothing declared means all of it, so jobs run one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Graphics processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
}

impl Needs {
    /// True when nothing is declared: the whole machine.
    pub const fn is_whole_machine(&self) -> bool {
        self.cpus.is_none() && self.memory_bytes.is_none() && self.gpus.is_none()
    }

    /// What this takes of `machine`: everything if nothing is declared; otherwise what is declared, one processor at
    /// least, and no memory or graphics processor that was not asked for.
    pub fn of(&self, machine: Capacity) -> Capacity {
        if self.is_whole_machine() {
            return machine;
        }
        Capacity {
            cpus: self.cpus.unwrap_or(1),
            memory_bytes: self.memory_bytes.unwrap_or(0),
            gpus: self.gpus.unwrap_or(0),
        }
    }
}

/// An amount of machine: all that jobs may use, or what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Graphics processors.
    pub gpus: u32,
}

impl Capacity {
    /// True when `part` fits into this.
    pub const fn fits(&self, part: &Self) -> bool {
        part.cpus <= self.cpus && part.memory_bytes <= self.memory_bytes && part.gpus <= self.gpus
    }

    /// What is left after `part` is taken; nothing goes below zero, since adopted jobs may hold more than a machine
    /// that was made smaller in between.
    #[must_use]
    pub const fn minus(&self, part: &Self) -> Self {
        Self {
            cpus: self.cpus.saturating_sub(part.cpus),
            memory_bytes: self.memory_bytes.saturating_sub(part.memory_bytes),
            gpus: self.gpus.saturating_sub(part.gpus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Capacity = Capacity {
        cpus: 8,
        memory_bytes: 100,
        gpus: 1,
    };

    #[test]
    fn a_tool_without_needs_takes_the_whole_machine() {
        assert_eq!(Needs::default().of(MACHINE), MACHINE);
    }

    #[test]
    fn two_half_machines_fit_and_a_third_does_not() {
        let half = Needs {
            cpus: Some(4),
            ..Needs::default()
        }
        .of(MACHINE);
        let left = MACHINE.minus(&half);
        assert!(left.fits(&half));
        assert!(!left.minus(&half).fits(&half));
    }
}
