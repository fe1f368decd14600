"""From the best trial to the champion: finalists are trained with fresh seeds and judged on the test images."""
