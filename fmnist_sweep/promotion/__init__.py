"""Which configuration becomes the champion, judged by fresh training seeds on the test images."""
