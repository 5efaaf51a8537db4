"""Labels that are probably wrong, by a detector that did not see them: scores, ranking, page, copies of the dataset."""
