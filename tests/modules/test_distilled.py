from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.losses import batch_hard_triplet_loss
from lightning_reid.modules import DistilledReID, SupervisedReID
from lightning_reid.networks import load_embedding_network, load_teacher
from lightning_reid.records import TrainedPeople

STUDENT = {"student": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
TEACHER = {"backbone": "resnet18", "backbone_options": {"channels": [8, 16, 16, 32], "layers": [1, 1, 1, 1]}}
UNCHANGED = {"crop_padding": 0, "erasing_probability": 0.0, "flip_probability": 0.0}


def quiet_trainer(folder, **options) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    loading = {"limit_val_batches": 0}
    return pl.Trainer(accelerator="cpu", devices=1, default_root_dir=folder, **(quiet | loading | options))


@pytest.fixture(scope="module")
def folder(market_folder):
    return str(market_folder)


def data_of(folder, **options) -> ImageReIDDataModule:
    return ImageReIDDataModule(folder, image_size=(64, 32), p=4, k=4, num_workers=0, **({"val_identities": 0} | options))


@pytest.fixture(scope="module")
def checkpoint(folder, tmp_path_factory) -> str:
    """A teacher of the ten training people."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("teacher")
    trainer = quiet_trainer(place, max_epochs=1)
    trainer.fit(SupervisedReID(**TEACHER), data_of(folder))
    trainer.save_checkpoint(place / "teacher.ckpt")
    return str(place / "teacher.ckpt")


def test_a_teacher_from_a_checkpoint_says_what_the_trained_module_says(checkpoint):
    module, teacher = SupervisedReID.load_from_checkpoint(checkpoint, weights_only=True).eval(), load_teacher(checkpoint)
    images = torch.randn(3, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(teacher(images).embedding, module(images))
        torch.testing.assert_close(teacher(images).logits, module.classifier(module(images)))
    assert (teacher.num_classes, teacher.image_size) == (10, (64, 32))


@pytest.mark.parametrize("embeddings", ["none", "relational"])
def test_the_loss_is_eq_3_and_the_triplet_loss_and_the_distance_between_embeddings(checkpoint, embeddings):
    torch.manual_seed(1)
    teacher = load_teacher(checkpoint).double()
    model = DistilledReID(**STUDENT, teacher=teacher, num_classes=10, temperature=3, alpha=0.4, embeddings=embeddings).double()
    logged: dict[str, torch.Tensor] = {}
    model.log_dict = lambda values, **_: logged.update(values)
    images, pids = torch.randn(16, 3, 64, 32, dtype=torch.float64), torch.arange(16) // 4
    loss = model.train().training_step({"images": images, "pids": pids}, 0)
    before, after, _ = model.embed(images)
    mine, theirs = model.classifier(after), teacher(images).logits
    kl = (theirs.div(3).softmax(1) * (theirs.div(3).log_softmax(1) - mine.div(3).log_softmax(1))).sum(1).mean()
    expected = 0.4 * 9 * kl + 0.6 * F.cross_entropy(mine, pids) + batch_hard_triplet_loss(before, pids)
    if embeddings == "relational":
        assert logged["train/loss_embedding"] > 0
        expected = expected + logged["train/loss_embedding"]
    torch.testing.assert_close(loss, expected)
    assert 0 <= logged["train/teacher_accuracy"] <= 1


def test_training_leaves_the_teacher_alone_and_keeps_it_out_of_the_checkpoint(folder, checkpoint, tmp_path):
    torch.manual_seed(2)
    model = DistilledReID(**STUDENT, teacher=checkpoint, embeddings="relational")
    before = {name: tensor.clone() for name, tensor in model.teacher.state_dict().items()}
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, data_of(folder))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.teacher.state_dict().items())
    assert {"train/loss_kd", "train/loss_embedding", "train/teacher_accuracy"} <= set(trainer.callback_metrics)
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    content = torch.load(tmp_path / "student.ckpt", weights_only=True)
    assert set(content["state_dict"]) == set(SupervisedReID(**STUDENT_AS_MODULE, num_classes=10).state_dict())
    assert not {"teacher", "teacher_options"} & set(content["hyper_parameters"])
    assert checkpoint not in str(content["hyper_parameters"])


STUDENT_AS_MODULE = {"backbone": STUDENT["student"], "backbone_options": STUDENT["backbone_options"]}


def test_a_students_checkpoint_loads_and_embeds_without_the_teacher_and_refuses_to_be_fitted_without_one(folder, checkpoint, tmp_path):
    trainer, model = quiet_trainer(tmp_path, max_epochs=1, limit_train_batches=1), DistilledReID(**STUDENT, teacher=checkpoint)
    trainer.fit(model, data_of(folder))
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    again = DistilledReID.load_from_checkpoint(tmp_path / "student.ckpt", weights_only=True).eval()
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        expected = model.eval()(images)
        torch.testing.assert_close(again(images), expected)
        torch.testing.assert_close(load_embedding_network(tmp_path / "student.ckpt")(images).embedding, expected)
    with pytest.raises(ValueError, match="has no teacher to learn from"):
        quiet_trainer(tmp_path, max_epochs=2).fit(again, data_of(folder))


def test_a_resumed_student_equals_one_that_was_never_stopped(folder, checkpoint, tmp_path):
    def student() -> DistilledReID:
        torch.manual_seed(3)
        return DistilledReID(**STUDENT, teacher=checkpoint)

    unbroken = student()
    quiet_trainer(tmp_path, max_epochs=2).fit(unbroken, data_of(folder))
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(student(), data_of(folder))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = student()
    quiet_trainer(tmp_path, max_epochs=2).fit(resumed, data_of(folder), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for name, tensor in unbroken.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_without_a_share_of_the_teacher_it_is_supervised_learning(folder):
    torch.manual_seed(4)
    alone = DistilledReID(**STUDENT, alpha=0.0, num_classes=10)
    supervised = SupervisedReID(**STUDENT_AS_MODULE, num_classes=10, label_smoothing=0.0)
    supervised.load_state_dict(alone.state_dict())
    batch = {"images": torch.randn(16, 3, 64, 32), "pids": torch.arange(16) // 4}
    for module in (alone, supervised):
        module.log_dict = lambda *_, **__: None
    assert torch.equal(alone.train().training_step(batch, 0), supervised.train().training_step(batch, 0))


def test_a_teacher_that_is_remembered_teaches_the_same(folder, checkpoint, tmp_path):
    students = []
    for remember in (False, True):
        torch.manual_seed(5)
        students.append(DistilledReID(**STUDENT, teacher=checkpoint, remember_teacher=remember))
        quiet_trainer(tmp_path, max_epochs=2).fit(students[-1], data_of(folder, **UNCHANGED))
    for (name, one), other in zip(students[0].named_parameters(), students[1].parameters()):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_what_cannot_be_learned_from_is_said_before_the_first_batch(folder, checkpoint, tmp_path):
    def refused(match: str, data: ImageReIDDataModule | None = None, **options) -> None:
        model = DistilledReID(**STUDENT, teacher=options.pop("teacher", checkpoint), **options)
        with pytest.raises(ValueError, match=match):
            quiet_trainer(tmp_path, max_epochs=1).fit(model, data or data_of(folder))

    refused("the teacher has a classifier of 10 identities, the student learns 7 identities", data_of(folder, val_identities=3))
    other_people = load_teacher(checkpoint)
    other_people.people = TrainedPeople("elsewhere", tuple(range(10)))
    refused("the teacher's 10 classes are people of elsewhere, the student's other people, 10 of market", teacher=other_people)
    without = load_teacher(checkpoint)
    without.classifier = None
    refused("the teacher has no classifier, the student learns 10 identities", teacher=without)
    refused("the teacher's embeddings have 32 numbers, the student's 16: give embeddings='relational'", embeddings="cosine")
    refused("images must be the same in every epoch: give the datamodule flip_probability=0", remember_teacher=True)


def test_numbers_out_of_range_die_in_the_constructor():
    with pytest.raises(ValueError, match=r"temperature must be a number in \(0, .* got 0"):
        DistilledReID(**STUDENT, temperature=0)
    with pytest.raises(ValueError, match=r"alpha must be a number in \[0, 1\], got 2"):
        DistilledReID(**STUDENT, alpha=2)
    with pytest.raises(ValueError, match=r"embeddings must be one of .* got 'euclidean'"):
        DistilledReID(**STUDENT, embeddings="euclidean")
    with pytest.raises(ValueError, match="called student here: got student='resnet18', backbone='resnet50'"):
        DistilledReID(**STUDENT, backbone="resnet50")
