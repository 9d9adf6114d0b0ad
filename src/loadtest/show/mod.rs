//! How a report is shown: as text, JSON and comma-separated values, as a page to open in a browser, and the
//! parts that other pages are made of.
//!
//! Owns the words, the tables and the plots; values come from `report` and stay as they are. Whatever a
//! peer or a user said is escaped here and nowhere else. Writing files is left to the command.

#![allow(
    unused_imports,
    reason = "the command and the comparison use them, which are not always there"
)]

mod bars;
mod canvas;
mod csv;
mod html;
mod json;
mod page;
mod plot;
#[cfg(test)]
pub(crate) mod sample;
mod scale;
mod text;
mod words;

pub(crate) use bars::bars;
pub(crate) use csv::csv;
pub(crate) use html::html;
pub(crate) use json::{Threshold, json};
pub(crate) use page::{escape, page, table};
pub(crate) use plot::{Axis, Plot, Series, Shape, lines};
pub(crate) use scale::{Scale, count, precise, time};
pub(crate) use text::text;
