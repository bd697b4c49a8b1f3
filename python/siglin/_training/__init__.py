"""Training: what a fit is asked, runs, reports and remembers."""
