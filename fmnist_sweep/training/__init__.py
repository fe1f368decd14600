"""One trial: a model is built, trained, validated and packed. It knows neither the search nor the store."""
