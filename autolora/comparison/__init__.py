"""AutoLoRA and its rivals, many seeds, one table: plan, execution, results, statistics."""
