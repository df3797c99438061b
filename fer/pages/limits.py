"""What a model of faces is not for, as its card says."""

LIMITS = """\
- **Not for judging people.** It sees a pose in one picture, not what somebody feels, and must not
  be used to decide about anybody: for hiring, teaching, policing, health or credit.
- **Labels are noisy.** FER-2013's come from the words by which its pictures were searched, looked
  through by few people; others who label them agree with 65 ± 5% (Goodfellow et al. 2013,
  arXiv 1307.0414). Some identical images carry different labels.
- **Posed and web pictures.** Many of its faces are posed, cropped, watermarked, or no faces at
  all. Other cameras, ages, skins and situations give other errors, which were not measured.
- **Classes are of very different size**, disgust the rarest by far: accuracy hides how rare
  ones fare, a table by class does not.
- It reads one face in a 48x48 grey square, and finds no faces itself."""
DEMO_LIMITS = """\
- **Of no use.** It was trained on drawn faces, to try the program, and knows no real ones."""
