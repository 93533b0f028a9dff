//! `onelane tool search` as its users see it: arguments, files, and scores against other programs.

#[cfg(test)]
mod interface;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod support;
