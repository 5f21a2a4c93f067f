"""What every learner keeps, and how it is checked: `marlstone check-learner`."""
