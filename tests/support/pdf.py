"""Make small PDF files by hand."""


def make_pdf(*pages: str, title: str = "") -> bytes:
    """Return a PDF with these pages of Latin text."""
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", font, b"<< /Title (%b) >>"]
    objects[3] %= title.encode("latin-1")
    kids = []
    for page in pages:
        lines = b" ".join(b"(%b) Tj T*" % line.encode("latin-1") for line in page.split("\n"))
        content = b"BT /F1 12 Tf 72 720 Td 14 TL %b ET" % lines
        objects.append(b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%b] >>" % (len(kids), b" ".join(kids))
    return _write_objects(objects)


def _write_objects(objects: list[bytes]) -> bytes:
    content = b"%PDF-1.4\n"
    places = b"0000000000 65535 f \n"
    for number, each in enumerate(objects, start=1):
        places += b"%010d 00000 n \n" % len(content)
        content += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    count = len(objects) + 1
    trailer = b"trailer << /Size %d /Root 1 0 R /Info 4 0 R >>" % count
    return content + b"xref\n0 %d\n%b%b\nstartxref\n%d\n%%%%EOF" % (
        count,
        places,
        trailer,
        len(content),
    )
