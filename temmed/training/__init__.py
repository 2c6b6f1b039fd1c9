"""The LightningModule, losses, schedules, callbacks and run set-up."""
