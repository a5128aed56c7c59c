//! Tables per detector.
