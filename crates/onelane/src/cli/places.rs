use std::path::PathBuf;

/// The data folder when nobody names one: `$XDG_STATE_HOME/onelane`, or `~/.local/state/onelane`
/// (XDG Base Directory Specification; a relative value there is to be ignored).
pub(crate) fn default_data_folder() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || std::env::home_dir().map(|home| home.join(".local/state"));
    state.or_else(home).map(|state| state.join("onelane"))
}
