"""Limits of a model of faces, for its card."""

LIMITS = """\
- **Not for judging people.** The model sees a pose in one picture, not what a person feels, and
  must not be used for decisions about people, such as in hiring, teaching, policing, health or
  credit.
- **Labels are noisy.** FER-2013's labels come from the search terms for its pictures, reviewed by
  few people; others agree with them on 65 ± 5% of images (Goodfellow et al. 2013, arXiv
  1307.0414). Some identical images have different labels.
- **Posed and web pictures.** Many of the faces are posed, cropped or watermarked, and some
  pictures show no face. Other cameras, ages, skin tones and situations give other errors, which
  were not measured.
- **Classes differ greatly in size**; disgust is by far the rarest. Accuracy hides results on rare
  classes; a table by class does not.
- The model expects one face in a 48x48 grey square, and does not detect faces."""
DEMO_LIMITS = """\
- **Not for use.** It was trained on synthetic faces, to try the program, and has seen no
  real ones."""
