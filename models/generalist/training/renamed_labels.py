"""Words that training prompts are made of beyond the tasks' own: other labels, other modalities."""

from __future__ import annotations

NEUTRAL = (
    *(f"finding {letter}" for letter in "abcdefgh"),
    *(f"class {letter}" for letter in "ABCDEFGH"),
    *(f"type {number}" for number in range(1, 9)),
    *(f"grade {number}" for number in range(1, 6)),
    "group one", "group two", "group three", "positive", "negative", "present", "absent",
    "red", "green", "blue",
)  # fmt: skip

DIAGNOSES = (
    "normal", "abnormal", "benign", "malignant", "tumor", "no tumor", "pneumonia", "tuberculosis",
    "effusion", "pneumothorax", "cardiomegaly", "atelectasis", "edema", "emphysema", "fibrosis", "nodule",
    "mass", "fracture", "no finding", "consolidation", "hernia", "osteophytes", "disc space narrowing",
    "surgical implant", "melanoma", "melanocytic nevus", "basal cell carcinoma", "actinic keratosis",
    "benign keratosis", "dermatofibroma", "vascular lesion", "squamous cell carcinoma", "psoriasis",
    "eczema", "urticaria", "diabetes", "diabetic retinopathy", "glaucoma", "cataract",
    "age-related macular degeneration", "hypertension", "myopia", "drusen", "macular edema",
    "choroidal neovascularization", "others", "adenocarcinoma", "benign tissue", "lymphoma", "metastasis",
    "necrosis", "inflammation", "polyp", "ulcer", "hemorrhage", "infarct", "glioma", "meningioma",
    "pituitary tumor", "stroke", "hydrocephalus", "cyst", "fibroadenoma", "calcification", "lipoma",
    "hyperplasia", "dysplasia", "carcinoma in situ", "sarcoma", "liver", "kidney", "spleen", "lung",
    "heart", "bladder", "femur", "pancreas", "hand", "head", "abdomen", "AbdomenCT", "BreastMRI", "ChestCT",
    "CXR", "HeadCT", "mild", "moderate", "severe", "healthy", "infection", "bacterial pneumonia",
    "viral pneumonia", "appendicitis", "gallstones", "ground-glass opacity", "bleeding",
)  # fmt: skip

MODALITIES = (
    "chest X-ray", "brain MRI", "breast ultrasound", "lung histology", "dermatoscopy", "colour fundus",
    "fundus photograph", "OCT", "CT", "chest CT", "abdominal CT", "MRI", "X-ray", "spine X-ray",
    "mammography", "endoscopy", "colonoscopy", "pathology", "histopathology", "microscopy", "ultrasound",
    "radiology", "medical", "skin", "retinal", "dental X-ray", "blood smear", "PET",
)  # fmt: skip
