use std::ops::Deref;
use std::sync::Arc;

use crate::definition::ToolDefinition;

/// A declared tool: its definition, which does not change any more, with its hash, which every submission needs and which
/// is worth computing once.
#[derive(Clone, Debug)]
pub struct Tool {
    definition: Arc<ToolDefinition>,
    hash: String,
}

impl Tool {
    /// Computes the hash.
    pub fn new(definition: ToolDefinition) -> Self {
        let hash = definition.hash();
        Self {
            definition: Arc::new(definition),
            hash,
        }
    }

    /// What [`ToolDefinition::hash`] gives.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The definition alone.
    pub fn definition(&self) -> &Arc<ToolDefinition> {
        &self.definition
    }
}

impl Deref for Tool {
    type Target = ToolDefinition;

    fn deref(&self) -> &ToolDefinition {
        &self.definition
    }
}
