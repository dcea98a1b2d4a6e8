"""LightningModules under the Lightning Trainer: one YAML for each experiment, one directory for each run.

usage: python train.py {fit,validate,test,predict} --config FILE [--ckpt_path best|last|FILE]
                                                   [--trainer.X ...] [--data.X ...] [--model.X ...]

  fit       train, validating as it goes; prints the run directory at its end
  validate  loss and metrics on the validation rows     (needs --ckpt_path)
  test      loss, metrics and reports on the test rows  (needs --ckpt_path)
  predict   labels for new rows, in predictions.jsonl   (needs --ckpt_path)

first steps:
  python train.py fit     --config configs/iris_binary.yaml
  python train.py test    --config configs/iris_binary.yaml --ckpt_path best
  python train.py predict --config configs/iris_binary.yaml --ckpt_path best
  tensorboard --logdir runs

every option with its meaning and default:
  python train.py fit --help
  python train.py fit --model.help MODULE.CLASS

`best` and `last` are the checkpoints of that config's newest run that has one. A run's directory holds config.yaml,
checkpoints/{best,last}.ckpt, metrics.csv, TensorBoard events and figures/. It is runs/NAME/version_N for
configs/NAME.yaml, or what --trainer.default_root_dir says. `fit --ckpt_path last` continues a run where it was; any
other checkpoint starts a new run. `fit --refit true` adds a second run, on training and validation rows, with what the
first one has chosen, and `fit --refit folds` one with what cross-validation has chosen, for few rows. `fit --test true`
tests the best state at the end. An option on the command line wins over a configuration, the later of two
configurations over the first, and both over a checkpoint. A configuration names classes to import and call: trust it as
you would trust a script.
"""
