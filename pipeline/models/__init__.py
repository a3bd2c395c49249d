"""What looks at frames: classifiers, embedders, vision-language models. Knows nothing of Ray."""
