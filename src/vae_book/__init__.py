"""What the chapters use besides ``vae_core``: data sets, the models of the first chapters, what is
known exactly, the ruler for samples, claims, figures and checkers of exercises."""
