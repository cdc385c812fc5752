from ..installation import bank, cards, generalist_folder, pictures, report_folder, specialist_folders

__all__ = ["bank", "cards", "generalist_folder", "pictures", "report_folder", "specialist_folders"]
