"""What every command needs: flags, exit statuses, files, TensorFlow 1."""
