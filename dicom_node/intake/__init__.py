"""From received bytes to complete studies."""
