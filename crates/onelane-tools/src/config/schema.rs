pub fn tools_file_schema() -> serde_json::Value {
    serde_json::Value::Null
}
