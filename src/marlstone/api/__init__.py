"""What Python programs and notebooks use, offered by `import marlstone`. Answers are typed, and are the command line's records."""
