//! A sheet to draw on in CSS pixels, whose colours are left to the style of the page around it.
//!
//! Owns what plotters is asked for and what is made of its SVG. plotters writes colours as they are; here
//! each is a stand-in that becomes a custom property afterwards, so that one drawing suits a light and a
//! dark page. It has no fonts either: how wide a text is can only be guessed.

use super::page::escape;
use super::words::plain;
use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::{
    Circle, DrawingArea, IntoDrawingArea, PathElement, Polygon, Rectangle, SVGBackend,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontFamily, FontStyle, RGBColor, ShapeStyle, TextStyle};

/// plotters knows whole numbers only: so many of its units are a pixel.
const FINENESS: f64 = 4.0;

/// What plotters divides the sizes of fonts by.
const FONT_FACTOR: f64 = 1.24;

/// The colours of series, as the page names them (`--s0` and on).
pub(super) const SERIES: usize = 6;

/// How the lines of series are broken, for those who cannot tell the colours apart.
const DASHES: [&str; SERIES] = ["", "28 12", "8 10", "36 10 8 10", "48 16", "4 6"];

/// What something is drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// Text and axes.
    Ink,
    /// What explains: labels of axes, ticks.
    Quiet,
    /// Lines that lead the eye.
    Grid,
    /// A moment at which something was done.
    Mark,
    /// That of a series.
    Series(usize),
}

impl Paint {
    const ALL: [Self; 4 + SERIES] = [
        Self::Ink,
        Self::Quiet,
        Self::Grid,
        Self::Mark,
        Self::Series(0),
        Self::Series(1),
        Self::Series(2),
        Self::Series(3),
        Self::Series(4),
        Self::Series(5),
    ];

    /// The colour that stands for it until the drawing is done.
    fn stand_in(self) -> RGBColor {
        let number = match self {
            Self::Ink => 1,
            Self::Quiet => 2,
            Self::Grid => 3,
            Self::Mark => 4,
            Self::Series(number) => 16 + (number % SERIES) as u8,
        };
        RGBColor(0xFE, 0xED, number)
    }

    /// What takes the place of that.
    fn value(self) -> String {
        match self {
            Self::Ink => "currentColor".to_owned(),
            Self::Quiet => "var(--quiet)".to_owned(),
            Self::Grid => "var(--line)".to_owned(),
            Self::Mark => "var(--mark)".to_owned(),
            Self::Series(number) => format!("var(--s{})", number % SERIES),
        }
    }

    /// More about its strokes.
    fn stroke(self) -> String {
        let dashes = match self {
            Self::Mark => "12 12",
            Self::Series(number) => DASHES[number % SERIES],
            Self::Ink | Self::Quiet | Self::Grid => "",
        };
        match dashes {
            "" => String::new(),
            dashes => format!(" stroke-dasharray=\"{dashes}\""),
        }
    }
}

/// Where a text lies: which of its sides the given point is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The point is at its beginning.
    Begin,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// A point, in pixels from the left and the top.
pub(super) type Point = (f64, f64);

/// A drawing on its way. Each call draws above what is there.
pub(super) struct Sheet<'a>(DrawingArea<SVGBackend<'a>, Shift>);

type Drawn<'a> = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// How wide a text is, in pixels: a guess.
pub(super) fn width_of(text: &str, size: f64) -> f64 {
    let ems = |c: char| if c.is_ascii() { 0.58 } else { 0.9 };
    text.chars().map(ems).sum::<f64>() * size
}

/// A text of at most so many characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most.max(1) - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// An `<svg>` of that size with what `draw` draws, and its title for those who do not see it.
pub(super) fn drawing(
    title: &str,
    (width, height): (f64, f64),
    draw: impl FnOnce(&Sheet<'_>) -> Result<(), DrawingAreaErrorKind<std::io::Error>>,
) -> String {
    let (wide, high) = ((width * FINENESS) as u32, (height * FINENESS) as u32);
    let mut text = String::new();
    let sheet = Sheet(SVGBackend::with_string(&mut text, (wide, high)).into_drawing_area());
    // A string takes everything: nothing can fail here. What is missing is seen.
    let _ = draw(&sheet).and_then(|()| sheet.0.present());
    drop(sheet);
    let inner = text.split_once('>').map_or("", |(_, inner)| inner);
    let mut inner = inner.replace(" opacity=\"1\"", "");
    for paint in Paint::ALL {
        let RGBColor(red, green, blue) = paint.stand_in();
        let (old, value) = (
            format!("=\"#{red:02X}{green:02X}{blue:02X}\""),
            paint.value(),
        );
        let stroke = format!("stroke=\"{value}\"{}", paint.stroke());
        inner = inner.replace(&format!("stroke{old}"), &stroke);
        // No text can look like this: its quotation marks are escaped.
        inner = inner.replace(&format!("fill{old}"), &format!("fill=\"{value}\""));
    }
    let title = escape(title);
    format!(
        "<svg class=\"plot\" role=\"img\" width=\"100%\" viewBox=\"0 0 {wide} {high}\">\n\
         <title>{title}</title>{inner}"
    )
}

/// In the units of plotters.
fn fine((x, y): Point) -> (i32, i32) {
    ((x * FINENESS).round() as i32, (y * FINENESS).round() as i32)
}

impl<'a> Sheet<'a> {
    /// A line through points, so thick.
    pub(super) fn path(&self, points: &[Point], paint: Paint, thick: f64) -> Drawn<'a> {
        let points: Vec<_> = points.iter().copied().map(fine).collect();
        let style = ShapeStyle {
            color: paint.stand_in().into(),
            filled: false,
            stroke_width: (thick * FINENESS) as u32,
        };
        self.0.draw(&PathElement::new(points, style))
    }

    /// What lies within points, thinly.
    pub(super) fn area(&self, points: &[Point], paint: Paint) -> Drawn<'a> {
        use plotters::style::Color;
        let points: Vec<_> = points.iter().copied().map(fine).collect();
        let style = paint.stand_in().mix(0.15).filled();
        self.0.draw(&Polygon::new(points, style))
    }

    /// A dot.
    pub(super) fn dot(&self, at: Point, paint: Paint) -> Drawn<'a> {
        let style = ShapeStyle::from(paint.stand_in()).filled();
        self.0
            .draw(&Circle::new(fine(at), FINENESS as i32 * 2, style))
    }

    /// A box between two corners.
    pub(super) fn block(&self, from: Point, to: Point, paint: Paint) -> Drawn<'a> {
        let style = ShapeStyle::from(paint.stand_in()).filled();
        self.0.draw(&Rectangle::new([fine(from), fine(to)], style))
    }

    /// A text whose middle is as high as the point.
    pub(super) fn text(
        &self,
        text: &str,
        at: Point,
        size: f64,
        side: Side,
        paint: Paint,
    ) -> Drawn<'a> {
        self.write(text, at, size, side, paint, FontStyle::Normal)
    }

    /// The same for what stands above all.
    pub(super) fn heading(&self, text: &str, at: Point, size: f64) -> Drawn<'a> {
        self.write(text, at, size, Side::Begin, Paint::Ink, FontStyle::Bold)
    }

    fn write(
        &self,
        text: &str,
        at: Point,
        size: f64,
        side: Side,
        paint: Paint,
        weight: FontStyle,
    ) -> Drawn<'a> {
        let horizontal = match side {
            Side::Begin => HPos::Left,
            Side::Middle => HPos::Center,
            Side::End => HPos::Right,
        };
        let font = (FontFamily::SansSerif, size * FINENESS * FONT_FACTOR, weight);
        let color = paint.stand_in();
        let style = TextStyle::from(font)
            .color(&color)
            .pos(Pos::new(horizontal, VPos::Center));
        self.0.draw_text(&plain(text), &style, fine(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stand_in_is_left() {
        let svg = drawing("all <of> it", (100.0, 50.0), |sheet| {
            for paint in Paint::ALL {
                sheet.path(&[(0.0, 0.0), (9.0, 9.0)], paint, 1.5)?;
                sheet.area(&[(0.0, 0.0), (9.0, 9.0), (0.0, 9.0)], paint)?;
                sheet.block((0.0, 0.0), (5.0, 5.0), paint)?;
                sheet.dot((0.0, 0.0), paint)?;
                sheet.text("a \"#FEED01\" <b>", (1.0, 1.0), 12.0, Side::End, paint)?;
            }
            Ok(())
        });
        assert!(!svg.contains("=\"#"), "{svg}");
        assert!(svg.contains("<title>all &lt;of&gt; it</title>") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("&quot;#FEED01&quot; &lt;b&gt;"));
        for paint in Paint::ALL {
            assert!(svg.contains(&paint.value()), "{paint:?}");
        }
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("κόσμε", 3), "κό…");
        assert!(width_of("mmm", 10.0) > 15.0);
    }
}
