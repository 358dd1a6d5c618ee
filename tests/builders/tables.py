"""Catalogues in every format that is read, as the software of others writes them."""

import gzip
import warnings

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.io.votable.tree import VOTableFile
from astropy.table import MaskedColumn, Table

KINDS = {"cz_kms": float, "cz_error_kms": float, "distance_mpc": float, "camera": int}


def masked_table(columns):
    """An astropy table of columns of values and None."""
    table = Table()
    for name, values in columns.items():
        hidden = [value is None for value in values]
        known = next((value for value in values if value is not None), 0)
        filled = [known if value is None else value for value in values]
        table[name] = MaskedColumn(filled, mask=hidden) if any(hidden) else filled
    return table


def _astropy(form, **options):
    def write(columns, path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            masked_table(columns).write(path, format=form, **options)

    return write


def _pandas(separator=",", encoding="utf-8"):
    def write(columns, path):
        frame = pandas.DataFrame(columns)  # whole numbers with one missing become floats
        frame.to_csv(path, index=False, sep=separator, encoding=encoding)

    return write


def _zipped(write):
    def write_zipped(columns, path):
        plain = path.with_name("plain")
        plain.unlink(missing_ok=True)
        write(columns, plain)
        path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))

    return write_zipped


def _arrow(columns, path):
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)


def _dictionary(columns, path):
    arrays = {name: pa.array(values).dictionary_encode() for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path)


def _fits_text(columns, path):
    """A FITS table of text, as VizieR writes it: blanks, or the column's TNULL."""
    made = []
    for k, (name, values) in enumerate(columns.items()):
        known = next(value for value in values if value is not None)
        width = max(3, *(len(str(value)) for value in values))
        form = {int: f"I{width}", float: f"F{width}.2", str: f"A{width}"}[type(known)]
        null = "-99" if k % 2 and not isinstance(known, str) else None
        made.append(fits.Column(name, form, null=null, ascii=True, array=[known] * len(values)))
    hdu = fits.TableHDU.from_columns(fits.ColDefs(made))
    for k, column in enumerate(made, start=1):
        if column.null:  # astropy forgets it
            hdu.header[f"TNULL{k}"] = column.null
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    content = bytearray(path.read_bytes())
    with fits.open(path) as hdus:
        start, length = hdus[1].fileinfo()["datLoc"], hdus[1].header["NAXIS1"]
        starts, widths = hdus[1].columns.starts, [c.format.width for c in hdus[1].columns]
    for k, (column, values) in enumerate(zip(made, columns.values(), strict=True)):
        for row, value in enumerate(values):
            cell = (column.null or "") if value is None else str(value)
            at = start + row * length + starts[k] - 1
            content[at : at + widths[k]] = cell.ljust(widths[k]).encode()
    path.write_bytes(bytes(content))


def _votable(columns, path):
    """BINARY has no masks, so integers that are missing need a null value."""
    table = VOTableFile.from_table(masked_table(columns))
    for field in table.get_first_table().fields:
        if field.datatype == "long":
            field.values.null = -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table.to_xml(str(path), tabledata_format="binary")


WRITERS = {
    "csv of astropy": (".csv", _astropy("ascii.csv")),
    "csv of pandas": (".csv", _pandas()),
    "csv with ;": (".CSV", _pandas(";")),
    "csv in UTF-16": (".csv", _pandas(encoding="utf-16")),
    "csv with a mark": (".csv", _pandas(encoding="utf-8-sig")),
    "tsv": (".tsv", _pandas("\t")),
    "csv.gz": (".csv.gz", _zipped(_pandas())),
    "ecsv": (".ecsv", _astropy("ascii.ecsv")),
    "ecsv with commas": (".ecsv", _astropy("ascii.ecsv", delimiter=",")),
    "ecsv with masks": (".ecsv", _astropy("ascii.ecsv", serialize_method="data_mask")),
    "parquet of astropy": (".parquet", _astropy("parquet")),
    "parquet of arrow": (".parquet", _arrow),
    "parquet with dictionaries": (".parquet", _dictionary),
    "fits": (".fits", _astropy("fits")),
    "fit": (".fit", _astropy("fits")),
    "FITS": (".FITS", _astropy("fits")),
    "fits.gz": (".fits.gz", _zipped(_astropy("fits"))),
    "fits of text": (".fits", _fits_text),
    "votable": (".vot", _astropy("votable")),
    "votable, binary": (".xml", _votable),
    "votable, binary2": (".votable", _astropy("votable", tabledata_format="binary2")),
    "votable.gz": (".vot.gz", _zipped(_astropy("votable"))),
    "ipac": (".tbl", _astropy("ascii.ipac")),
}


def write_catalogue(writer, columns, folder, name="catalogue"):
    """Write columns of values and None, and return the file."""
    ending, write = WRITERS[writer]
    path = folder / f"{name}{ending}"
    path.unlink(missing_ok=True)
    write(columns, path)
    return path
